"""`StochasticWeightAveraging`."""

from trainkit.callbacks import stochastic_weight_averaging as core
from trainkit.compat.lightning.binding import takes_all
from trainkit.compat.lightning.callbacks.callback import Callback


@takes_all
class StochasticWeightAveraging(core.StochasticWeightAveraging, Callback):
    """trainkit's `StochasticWeightAveraging`; see `trainkit.callbacks.StochasticWeightAveraging`."""
