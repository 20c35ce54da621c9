"""Lightning's ``callbacks``."""

from trainkit.compat.lightning.absent import LATER, LATER_TUNER, absent_names
from trainkit.compat.lightning.callbacks.callback import Callback
from trainkit.compat.lightning.callbacks.checkpoint import Checkpoint
from trainkit.compat.lightning.callbacks.early_stopping import EarlyStopping
from trainkit.compat.lightning.callbacks.gradient_accumulation_scheduler import GradientAccumulationScheduler
from trainkit.compat.lightning.callbacks.lambda_function import LambdaCallback
from trainkit.compat.lightning.callbacks.lr_monitor import LearningRateMonitor
from trainkit.compat.lightning.callbacks.model_checkpoint import ModelCheckpoint
from trainkit.compat.lightning.callbacks.model_summary import ModelSummary
from trainkit.compat.lightning.callbacks.prediction_writer import BasePredictionWriter
from trainkit.compat.lightning.callbacks.progress import ProgressBar, RichProgressBar, TQDMProgressBar
from trainkit.compat.lightning.callbacks.rich_model_summary import RichModelSummary

__all__ = [
    "BasePredictionWriter",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "GradientAccumulationScheduler",
    "LambdaCallback",
    "LearningRateMonitor",
    "ModelCheckpoint",
    "ModelSummary",
    "ProgressBar",
    "RichModelSummary",
    "RichProgressBar",
    "TQDMProgressBar",
]

_AVERAGING = f"torch.optim.swa_utils.AveragedModel, updated in on_train_batch_end; {LATER}"
_FREEZING = f"module.backbone.requires_grad_(False) at first, and True in on_train_epoch_start; {LATER}"
_WATCHING = f"a callback with on_train_batch_end that calls trainer.log_metrics({{...}}); {LATER}"

__getattr__ = absent_names(
    __name__,
    {
        "BackboneFinetuning": _FREEZING,
        "BaseFinetuning": _FREEZING,
        "BatchSizeFinder": LATER_TUNER,
        "DeviceStatsMonitor": _WATCHING,
        "EMAWeightAveraging": _AVERAGING,
        "LearningRateFinder": LATER_TUNER,
        "ModelPruning": f"torch.nn.utils.prune, called in a hook; {LATER}",
        "OnExceptionCheckpoint": "ModelCheckpoint(save_on_exception=True)",
        "SpikeDetection": _WATCHING,
        "StochasticWeightAveraging": _AVERAGING,
        "ThroughputMonitor": _WATCHING,
        "Timer": f"Trainer(max_time=...) to stop after a time; trainer.progress.elapsed_s tells it; {LATER}",
        "WeightAveraging": _AVERAGING,
    },
)
