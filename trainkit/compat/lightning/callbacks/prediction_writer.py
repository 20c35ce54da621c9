"""`BasePredictionWriter`."""

from trainkit.callbacks import prediction_writer as core
from trainkit.compat.lightning.binding import takes_all
from trainkit.compat.lightning.callbacks.callback import Callback


@takes_all
class BasePredictionWriter(core.PredictionWriter, Callback):
    """trainkit's `PredictionWriter`; see `trainkit.callbacks.PredictionWriter`."""
