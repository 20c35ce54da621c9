"""`WeightAveraging` and `EMAWeightAveraging`."""

from trainkit.callbacks import weight_averaging as core
from trainkit.compat.lightning.binding import takes_all
from trainkit.compat.lightning.callbacks.callback import Callback


@takes_all
class WeightAveraging(core.WeightAveraging, Callback):
    """trainkit's `WeightAveraging`; see `trainkit.callbacks.WeightAveraging`."""


@takes_all
class EMAWeightAveraging(core.EMAWeightAveraging, WeightAveraging):
    """trainkit's `EMAWeightAveraging`; see `trainkit.callbacks.EMAWeightAveraging`."""
