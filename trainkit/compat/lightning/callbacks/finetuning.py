"""`BaseFinetuning` and `BackboneFinetuning`."""

from trainkit.callbacks.finetuning import callback as core
from trainkit.compat.lightning.binding import takes_all
from trainkit.compat.lightning.callbacks.callback import Callback


@takes_all
class BaseFinetuning(core.BaseFinetuning, Callback):
    """trainkit's `BaseFinetuning`; see `trainkit.callbacks.BaseFinetuning`."""


@takes_all
class BackboneFinetuning(core.BackboneFinetuning, BaseFinetuning):
    """trainkit's `BackboneFinetuning`; see `trainkit.callbacks.BackboneFinetuning`."""
