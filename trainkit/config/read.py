"""Reads a configuration file, applies overrides, and returns a `Config`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from trainkit.config.schema import Config, Source
from trainkit.errors import ConfigError
from trainkit.plugins import catalog


def read(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Config:
    """Read a configuration.

    Args:
        path: A YAML file.
        overrides: ``key=value`` or ``+key=value`` sets a value, which is read as YAML; ``~key`` removes one.
            Later ones win.

    Raises:
        ConfigError: If the file or an override cannot be read, an interpolation leads nowhere, or a section is unknown
            or malformed.
    """
    tree = _load(os.fspath(path))
    written: dict[str, str] = {}
    named = _named_callbacks(tree)
    for override in overrides:
        key = _apply(tree, override)
        named |= _named_callbacks(tree)
        # Removed first, so that the dict is in the order in which the last override of each key was given.
        written.pop(key, None)
        written[key] = override
    source = Source(os.fspath(path), written)
    try:
        sections: Any = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise _explain(error, source) from error
    _leave_out_disabled(sections.get("callbacks"), named)
    return Config.from_sections(sections, source)


def _load(path: str) -> DictConfig:
    try:
        tree = OmegaConf.load(path)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path!r}: {error.strerror}.") from error
    # A file that is no text fails in the decoder, one that is no YAML in the parser, a bad ${...} in OmegaConf.
    except (UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path} is not a configuration: {_first_line(error)}") from error
    if not isinstance(tree, DictConfig):
        raise ConfigError(f"{path} is not a configuration: it holds a list, and sections are a mapping.")
    return tree


def _apply(tree: DictConfig, override: str) -> str:
    """Apply one override to ``tree``, and return the key path that it sets or removes."""
    # Hydra's "+" for a new key is accepted; here a key need not be there to be set.
    key, separator, text = override.removeprefix("+").partition("=")
    removes = key.startswith("~")
    if (not separator and not removes) or not key.strip("~"):
        raise ConfigError(f"override {override!r} is not usable.\n    allowed      key=value, +key=value, ~key")
    try:
        if removes:
            return _remove(tree, key[1:])
        # As YAML, so that numbers, lists and null on the command line are what they are in a file.
        value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
        assert isinstance(value, dict)
        OmegaConf.update(tree, key, value["value"], force_add=True)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"override {override!r} is not usable: {_first_line(error)}") from error
    return key


def _remove(tree: DictConfig, key: str) -> str:
    parent, _, name = key.rpartition(".")
    holder = OmegaConf.select(tree, parent) if parent else tree
    if not isinstance(holder, DictConfig) or name not in holder:
        raise ConfigError(f"override '~{key}' removes {key!r}, which is not there.")
    del holder[name]
    return key


def _named_callbacks(tree: DictConfig) -> set[str]:
    """Return the keys of the callbacks that ``tree`` describes."""
    sections: Any = OmegaConf.to_container(tree)
    callbacks = sections.get("callbacks")
    return {name for name in callbacks if callbacks[name] is not None} if isinstance(callbacks, dict) else set()


def _leave_out_disabled(callbacks: Any, named: set[str]) -> None:
    """Remove callbacks that null has disabled, if their key is the user's own: nothing else has that name.

    A name of the catalog stays with its null, which also disables what is there by default. So does one that nobody
    has used before, which is misspelt.
    """
    if isinstance(callbacks, dict):
        for name in [name for name in callbacks if callbacks[name] is None and name in named]:
            if not catalog.has("callbacks", name):
                del callbacks[name]


def _explain(error: OmegaConfBaseException, source: Source) -> ConfigError:
    """Return the error for an interpolation that leads nowhere, or for a value that is still ``???``."""
    key = str(error.full_key)
    if isinstance(error, MissingMandatoryValue):
        return source.refuse(key, f"{key} is '???': it has to be given.", write=f"{key}=VALUE as an override")
    return source.refuse(key, f"{key} cannot be resolved: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    """Return the message of an error without the lines in which OmegaConf and YAML show their own state."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} (line {error.problem_mark.line + 1})"
    return str(error).partition("\n")[0]
