"""`GradientAccumulationScheduler`."""

from trainkit.callbacks import accumulation_schedule as core
from trainkit.compat.lightning.binding import takes_all
from trainkit.compat.lightning.callbacks.callback import Callback


@takes_all
class GradientAccumulationScheduler(core.GradientAccumulationScheduler, Callback):
    """trainkit's `GradientAccumulationScheduler`; see `trainkit.callbacks.GradientAccumulationScheduler`."""
