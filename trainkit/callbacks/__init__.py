"""The callbacks that come with trainkit, imported when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainkit.callbacks.accumulation_schedule import GradientAccumulationScheduler
    from trainkit.callbacks.base import Callback
    from trainkit.callbacks.csv_logger import CSVLogger
    from trainkit.callbacks.early_stopping import EarlyStopping
    from trainkit.callbacks.gradient_clipping import GradientClipping
    from trainkit.callbacks.logger import Logger
    from trainkit.callbacks.lr_monitor import LearningRateMonitor
    from trainkit.callbacks.model_checkpoint import ModelCheckpoint
    from trainkit.callbacks.model_summary import ModelSummary
    from trainkit.callbacks.prediction_writer import PredictionWriter
    from trainkit.callbacks.progress_bar import ProgressBar
    from trainkit.callbacks.tensorboard import TensorBoardLogger

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "GradientAccumulationScheduler",
    "GradientClipping",
    "LearningRateMonitor",
    "Logger",
    "ModelCheckpoint",
    "ModelSummary",
    "PredictionWriter",
    "ProgressBar",
    "TensorBoardLogger",
]

_FILE_OF = {
    "CSVLogger": "csv_logger",
    "Callback": "base",
    "EarlyStopping": "early_stopping",
    "GradientAccumulationScheduler": "accumulation_schedule",
    "GradientClipping": "gradient_clipping",
    "LearningRateMonitor": "lr_monitor",
    "Logger": "logger",
    "ModelCheckpoint": "model_checkpoint",
    "ModelSummary": "model_summary",
    "PredictionWriter": "prediction_writer",
    "ProgressBar": "progress_bar",
    "TensorBoardLogger": "tensorboard",
}


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module 'trainkit.callbacks' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"trainkit.callbacks.{_FILE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
