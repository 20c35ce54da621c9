"""Steps of ranks with shares of different sizes in a global batch: the mean over ranks is that over all samples."""

from __future__ import annotations

from torch import Tensor

from trainkit.hooks.bound import BoundHooks
from trainkit.loops.run import FitRun, Step
from trainkit.types import Batch, StepOutput


def of_own_share(
    own: float, loss: Tensor, weight: float | Tensor | None = None
) -> tuple[Tensor, float | Tensor | None]:
    """Return a loss, and its weight if it is a sum, such that the mean over ranks is that over all of their samples.

    Args:
        own: What this rank's mean counts: its share of the samples, times the number of ranks.
        loss: What ``training_step`` returned.
        weight: Of a sum, what it is to be divided by.
    """
    if weight is None:
        return loss * own, None
    # Sums are exact as they are, but for a rank whose sample is not its own.
    return (loss, weight) if own else (loss * 0.0, weight * 0.0)


def without_padding(step: Step) -> Step:
    """Return ``step``, which collects no metrics of a sample that a rank has only to take part."""

    def step_of_own_share(run: FitRun, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
        if run.weight_of_batch is None or run.weight_of_batch(batch_idx) > 0:
            return step(run, hooks, batch, batch_idx, is_last)
        with run.metrics.padding():
            return step(run, hooks, batch, batch_idx, is_last)

    return step_of_own_share
