"""`ModelSummary`."""

from __future__ import annotations

from typing import Any

from trainkit.callbacks.model_summary import callback as core
from trainkit.checks import takes_numpy
from trainkit.compat.lightning.binding import takes_all
from trainkit.compat.lightning.callbacks.callback import Callback


@takes_all
class ModelSummary(core.ModelSummary, Callback):
    """trainkit's `ModelSummary`.

    Args:
        max_depth: How deep to list layers within layers; 0 lists none, -1 all.
        summarize_kwargs: Accepted: how the table looks is not a matter of options.
    """

    @takes_numpy
    def __init__(self, max_depth: int = 1, **summarize_kwargs: Any) -> None:
        super().__init__(max_depth)
