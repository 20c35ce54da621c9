"""Lightning's ``callbacks``."""

from trainkit.compat.lightning.absent import LATER, LATER_TUNER, absent_names
from trainkit.compat.lightning.callbacks.callback import Callback
from trainkit.compat.lightning.callbacks.checkpoint import Checkpoint
from trainkit.compat.lightning.callbacks.device_stats_monitor import DeviceStatsMonitor
from trainkit.compat.lightning.callbacks.early_stopping import EarlyStopping
from trainkit.compat.lightning.callbacks.finetuning import BackboneFinetuning, BaseFinetuning
from trainkit.compat.lightning.callbacks.gradient_accumulation_scheduler import GradientAccumulationScheduler
from trainkit.compat.lightning.callbacks.lambda_function import LambdaCallback
from trainkit.compat.lightning.callbacks.lr_monitor import LearningRateMonitor
from trainkit.compat.lightning.callbacks.model_checkpoint import ModelCheckpoint
from trainkit.compat.lightning.callbacks.model_summary import ModelSummary
from trainkit.compat.lightning.callbacks.on_exception_checkpoint import OnExceptionCheckpoint
from trainkit.compat.lightning.callbacks.prediction_writer import BasePredictionWriter
from trainkit.compat.lightning.callbacks.progress import ProgressBar, RichProgressBar, TQDMProgressBar
from trainkit.compat.lightning.callbacks.rich_model_summary import RichModelSummary
from trainkit.compat.lightning.callbacks.stochastic_weight_avg import StochasticWeightAveraging
from trainkit.compat.lightning.callbacks.timer import Timer
from trainkit.compat.lightning.callbacks.weight_averaging import EMAWeightAveraging, WeightAveraging

__all__ = [
    "BackboneFinetuning",
    "BaseFinetuning",
    "BasePredictionWriter",
    "Callback",
    "Checkpoint",
    "DeviceStatsMonitor",
    "EMAWeightAveraging",
    "EarlyStopping",
    "GradientAccumulationScheduler",
    "LambdaCallback",
    "LearningRateMonitor",
    "ModelCheckpoint",
    "ModelSummary",
    "OnExceptionCheckpoint",
    "ProgressBar",
    "RichModelSummary",
    "RichProgressBar",
    "StochasticWeightAveraging",
    "TQDMProgressBar",
    "Timer",
    "WeightAveraging",
]

_WATCHING = f"a callback with on_train_batch_end that calls trainer.log_metrics({{...}}); {LATER}"

__getattr__ = absent_names(
    __name__,
    {
        "BatchSizeFinder": LATER_TUNER,
        "LearningRateFinder": LATER_TUNER,
        "ModelPruning": f"torch.nn.utils.prune, called in a hook; {LATER}",
        "SpikeDetection": _WATCHING,
        "ThroughputMonitor": _WATCHING,
    },
)
