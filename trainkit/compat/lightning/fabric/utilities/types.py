"""Names for annotations."""

from __future__ import annotations

import os
from typing import TypeAlias

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

_PATH: TypeAlias = str | os.PathLike[str]
_DEVICE: TypeAlias = torch.device | str | int

__all__ = ["_DEVICE", "_PATH", "LRScheduler", "ReduceLROnPlateau"]
