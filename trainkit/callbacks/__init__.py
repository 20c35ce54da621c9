"""The callbacks that come with trainkit, imported when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainkit.callbacks.accumulation_schedule import GradientAccumulationScheduler
    from trainkit.callbacks.base import Callback
    from trainkit.callbacks.csv_logger import CSVLogger
    from trainkit.callbacks.device_stats import DeviceStatsMonitor
    from trainkit.callbacks.early_stopping import EarlyStopping
    from trainkit.callbacks.finetuning import BackboneFinetuning, BaseFinetuning
    from trainkit.callbacks.gradient_clipping import GradientClipping
    from trainkit.callbacks.logger import Logger
    from trainkit.callbacks.lr_monitor import LearningRateMonitor
    from trainkit.callbacks.model_checkpoint import ModelCheckpoint
    from trainkit.callbacks.model_summary import ModelSummary
    from trainkit.callbacks.prediction_writer import PredictionWriter
    from trainkit.callbacks.progress_bar import ProgressBar
    from trainkit.callbacks.stochastic_weight_averaging import StochasticWeightAveraging
    from trainkit.callbacks.tensorboard import TensorBoardLogger
    from trainkit.callbacks.timer import Timer
    from trainkit.callbacks.weight_averaging import EMAWeightAveraging, WeightAveraging

__all__ = [
    "BackboneFinetuning",
    "BaseFinetuning",
    "CSVLogger",
    "Callback",
    "DeviceStatsMonitor",
    "EMAWeightAveraging",
    "EarlyStopping",
    "GradientAccumulationScheduler",
    "GradientClipping",
    "LearningRateMonitor",
    "Logger",
    "ModelCheckpoint",
    "ModelSummary",
    "PredictionWriter",
    "ProgressBar",
    "StochasticWeightAveraging",
    "TensorBoardLogger",
    "Timer",
    "WeightAveraging",
]

_FILE_OF = {
    "BackboneFinetuning": "finetuning",
    "BaseFinetuning": "finetuning",
    "CSVLogger": "csv_logger",
    "Callback": "base",
    "DeviceStatsMonitor": "device_stats",
    "EMAWeightAveraging": "weight_averaging",
    "EarlyStopping": "early_stopping",
    "GradientAccumulationScheduler": "accumulation_schedule",
    "GradientClipping": "gradient_clipping",
    "LearningRateMonitor": "lr_monitor",
    "Logger": "logger",
    "ModelCheckpoint": "model_checkpoint",
    "ModelSummary": "model_summary",
    "PredictionWriter": "prediction_writer",
    "ProgressBar": "progress_bar",
    "StochasticWeightAveraging": "stochastic_weight_averaging",
    "TensorBoardLogger": "tensorboard",
    "Timer": "timer",
    "WeightAveraging": "weight_averaging",
}


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module 'trainkit.callbacks' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"trainkit.callbacks.{_FILE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
