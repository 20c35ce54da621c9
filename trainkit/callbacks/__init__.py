"""The callbacks that come with trainkit, imported when they are first used; loggers are among them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainkit.callbacks.accumulation_schedule import GradientAccumulationScheduler
    from trainkit.callbacks.builtin.gradient_clipping import GradientClipping
    from trainkit.callbacks.device_stats import DeviceStatsMonitor
    from trainkit.callbacks.early_stopping import EarlyStopping
    from trainkit.callbacks.finetuning.callback import BackboneFinetuning, BaseFinetuning
    from trainkit.callbacks.lr_monitor import LearningRateMonitor
    from trainkit.callbacks.model_checkpoint.callback import ModelCheckpoint
    from trainkit.callbacks.model_summary import ModelSummary
    from trainkit.callbacks.prediction_writer import PredictionWriter
    from trainkit.callbacks.progress_bar import ProgressBar
    from trainkit.callbacks.stochastic_weight_averaging import StochasticWeightAveraging
    from trainkit.callbacks.timer import Timer
    from trainkit.callbacks.weight_averaging import EMAWeightAveraging, WeightAveraging
    from trainkit.hooks.callback import Callback
    from trainkit.loggers.csv import CSVLogger
    from trainkit.loggers.logger import Logger
    from trainkit.loggers.tensorboard.logger import TensorBoardLogger

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

# Imported on first use, so that importing the package imports neither torch nor all callbacks.
_HOME_OF = {
    "BackboneFinetuning": "callbacks.finetuning",
    "BaseFinetuning": "callbacks.finetuning",
    "CSVLogger": "loggers.csv",
    "Callback": "hooks.callback",
    "DeviceStatsMonitor": "callbacks.device_stats",
    "EMAWeightAveraging": "callbacks.weight_averaging",
    "EarlyStopping": "callbacks.early_stopping",
    "GradientAccumulationScheduler": "callbacks.accumulation_schedule",
    "GradientClipping": "callbacks.builtin.gradient_clipping",
    "LearningRateMonitor": "callbacks.lr_monitor",
    "Logger": "loggers.logger",
    "ModelCheckpoint": "callbacks.model_checkpoint",
    "ModelSummary": "callbacks.model_summary",
    "PredictionWriter": "callbacks.prediction_writer",
    "ProgressBar": "callbacks.progress_bar",
    "StochasticWeightAveraging": "callbacks.stochastic_weight_averaging",
    "TensorBoardLogger": "loggers.tensorboard",
    "Timer": "callbacks.timer",
    "WeightAveraging": "callbacks.weight_averaging",
}


# A function that gives anything would hide misspelt names from type checkers, which know all of them from above.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'trainkit.callbacks' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"trainkit.{_HOME_OF[name]}"), name)
        globals()[name] = value  # the next access does not come here
        return value


def __dir__() -> list[str]:
    return __all__
