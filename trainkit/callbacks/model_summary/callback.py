"""A table of the module's layers, printed when a fit starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit.callbacks.model_summary.summarize import summarize
from trainkit.callbacks.model_summary.summary import Summary
from trainkit.callbacks.output_kind import screen
from trainkit.checks import flag, whole
from trainkit.hooks.callback import Callback
from trainkit.module import TrainModule

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class ModelSummary(Callback):
    """Prints layers, parameters and memory of the module; with ``module.example_input_array`` also sizes.

    Args:
        max_depth: How deep to list layers within layers; 0 lists none, -1 all.
        flops: Whether to count the operations of one forward pass. Needs ``module.example_input_array``.

    Raises:
        ConfigError: If an argument is not usable.
    """

    def __init__(self, max_depth: int = 1, *, flops: bool = False) -> None:
        whole("max_depth", max_depth, at_least=-1)
        flag("flops", flops)
        self.max_depth = max_depth
        self.flops = flops

    def on_fit_start(self, trainer: Trainer, module: TrainModule) -> None:
        # On every rank: the forward pass of a module that is sharded between them needs them all.
        example_input = trainer.precision.convert_batch(module.example_input_array)
        with trainer.precision.autocast():
            summary = summarize(module, self.max_depth, flops=self.flops, example_input=example_input)
        if trainer.is_global_zero:
            show(summary)


def show(summary: Summary) -> None:
    """Print a summary, in a way that suits where the output goes."""
    if screen() == "text":
        print(summary, flush=True)
        return
    from rich.console import Console

    from trainkit.callbacks.model_summary.table import as_rich

    Console().print(as_rich(summary))
