"""`Timer`."""

from trainkit.callbacks import timer as core
from trainkit.compat.lightning.binding import takes_all
from trainkit.compat.lightning.callbacks.callback import Callback


@takes_all
class Timer(core.Timer, Callback):
    """trainkit's `Timer`; see `trainkit.callbacks.Timer`."""
