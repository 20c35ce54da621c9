"""Loaders, data modules, and how batches get to the device."""

from __future__ import annotations

from trainkit.data.combined import CombinedLoader
from trainkit.data.module import DataModule
from trainkit.data.tensors import TensorLoader

__all__ = ["CombinedLoader", "DataModule", "TensorLoader"]
