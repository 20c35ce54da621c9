"""`LearningRateMonitor`."""

from trainkit.callbacks import lr_monitor as core
from trainkit.compat.lightning.binding import takes_all
from trainkit.compat.lightning.callbacks.callback import Callback


@takes_all
class LearningRateMonitor(core.LearningRateMonitor, Callback):
    """trainkit's `LearningRateMonitor`; see `trainkit.callbacks.LearningRateMonitor`."""
