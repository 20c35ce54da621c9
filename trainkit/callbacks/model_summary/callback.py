"""A table of the module's layers, printed when a fit starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit.callbacks.model_summary.summarize import summarize
from trainkit.callbacks.model_summary.summary import Summary
from trainkit.callbacks.output_kind import output_kind
from trainkit.checks import flag, takes_numpy, whole
from trainkit.hooks.callback import Callback
from trainkit.module import TrainModule
from trainkit.output import say

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class ModelSummary(Callback):
    """Prints layers, parameters and memory of the module, and input and output sizes if it has an example input.

    The example input is ``module.example_input_array``.

    Args:
        max_depth: How deep to list layers within layers; 0 lists none, -1 all.
        flops: Whether to count the floating-point operations of one forward pass. Needs ``module.example_input_array``.

    Raises:
        ConfigError: If an argument is not usable.
    """

    @takes_numpy
    def __init__(self, max_depth: int = 1, *, flops: bool = False) -> None:
        whole("max_depth", max_depth, at_least=-1)
        flag("flops", flops)
        self.max_depth = max_depth
        self.flops = flops

    def on_fit_start(self, trainer: Trainer, module: TrainModule) -> None:
        # On every rank: the forward pass of a module that is sharded over ranks needs all of them.
        example_input = trainer.precision.convert_batch(module.example_input_array)
        # In the run's precision: the weights may be in another dtype than the example.
        with trainer.precision.autocast():
            summary = summarize(module, self.max_depth, flops=self.flops, example_input=example_input)
        if trainer.is_global_zero:
            show(summary)


def show(summary: Summary) -> None:
    """Print a summary: with colours in a terminal or a notebook, as plain text elsewhere."""
    if output_kind() == "text":
        say(summary)
        return
    from trainkit import console
    from trainkit.callbacks.model_summary.table import as_rich

    console.show(as_rich(summary))
