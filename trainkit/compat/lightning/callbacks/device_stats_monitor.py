"""`DeviceStatsMonitor`."""

from trainkit.callbacks import device_stats as core
from trainkit.compat.lightning.binding import takes_all
from trainkit.compat.lightning.callbacks.callback import Callback


@takes_all
class DeviceStatsMonitor(core.DeviceStatsMonitor, Callback):
    """trainkit's `DeviceStatsMonitor`; see `trainkit.callbacks.DeviceStatsMonitor`."""
