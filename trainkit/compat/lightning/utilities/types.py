"""Names for annotations."""

from __future__ import annotations

from typing import Any, TypeAlias

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from trainkit.module.optimizers import SchedulerConfig as LRSchedulerConfig

STEP_OUTPUT: TypeAlias = Tensor | dict[str, Any] | None
TRAIN_DATALOADERS: TypeAlias = Any
EVAL_DATALOADERS: TypeAlias = Any
LRSchedulerTypeUnion: TypeAlias = LRScheduler | ReduceLROnPlateau
LRSchedulerType: TypeAlias = type[LRScheduler] | type[ReduceLROnPlateau]
LRSchedulerTypeTuple = (LRScheduler, ReduceLROnPlateau)
LRSchedulerPLType: TypeAlias = LRScheduler | ReduceLROnPlateau
LRSchedulerConfigType: TypeAlias = dict[str, Any]
OptimizerConfig: TypeAlias = dict[str, Any]
OptimizerLRSchedulerConfig: TypeAlias = dict[str, Any]
OptimizerLRScheduler: TypeAlias = Any

__all__ = [
    "EVAL_DATALOADERS",
    "STEP_OUTPUT",
    "TRAIN_DATALOADERS",
    "DistributedDataParallel",
    "LRSchedulerConfig",
    "LRSchedulerConfigType",
    "LRSchedulerPLType",
    "LRSchedulerType",
    "LRSchedulerTypeTuple",
    "LRSchedulerTypeUnion",
    "OptimizerConfig",
    "OptimizerLRScheduler",
    "OptimizerLRSchedulerConfig",
]
