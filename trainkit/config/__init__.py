"""Runs that are described in YAML: read a file and overrides, check them, build the objects they name."""

from __future__ import annotations

from trainkit.config.build import ConfiguredRun, build, from_config
from trainkit.config.read import read
from trainkit.config.schema import Config

__all__ = ["Config", "ConfiguredRun", "build", "from_config", "read"]
