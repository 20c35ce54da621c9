"""Counting the samples of training batches, in a run in which something goes by their number."""

from __future__ import annotations

from trainkit.batch.size import find_batch_size
from trainkit.errors import DataError
from trainkit.hooks.bound import BoundHooks
from trainkit.loops.run import FitRun, Step
from trainkit.output import warn
from trainkit.types import Batch, StepOutput


def counting_samples(step: Step) -> Step:
    """Return ``step``, after which the samples of its batch are counted, on all ranks."""

    def step_and_count(run: FitRun, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
        # Ahead of the step, which may change the batch; counted behind it, as the batch is.
        is_padding = run.weight_of_batch is not None and not run.weight_of_batch(batch_idx)
        samples = _samples_in(run, batch, is_padding=is_padding)
        outputs = step(run, hooks, batch, batch_idx, is_last)
        run.progress.samples += samples
        return outputs

    return step_and_count


def begin_count(run: FitRun) -> None:
    """Make ready to count, or note that nobody does: then the number means nothing."""
    progress = run.progress
    if not run.counts_samples:
        progress.samples = 0
    elif progress.total_batches and not progress.samples and run.strategy.is_global_zero:
        warn(
            f"something goes by a number of samples, and those of the {progress.total_batches} batches so far were not "
            "counted: it begins with none of them."
        )
    progress.validated_at_samples = min(progress.validated_at_samples, progress.samples)


def _samples_in(run: FitRun, batch: Batch, *, is_padding: bool) -> int:
    """Return how many samples all ranks have in this turn.

    Raises:
        DataError: If that cannot be told.
    """
    known = run.metrics.known_samples
    # Where samples are dealt nobody need be asked: all ranks have as many.
    if run.has_equal_parts and (dealt := known()):
        return dealt * run.strategy.world_size
    samples = find_batch_size(batch, known)
    if samples is None:
        # What a loader has drawn, where it is one; several side by side tell 0.
        samples = known() or None
    if samples is None:
        raise DataError(
            f"something goes by a number of samples, which cannot be told from a batch of type {type(batch).__name__}: "
            "its tensors have no rows, or not the same number of them.\n"
            "    to do        say '500 steps' or '250 batches' in place of samples, or yield batches whose tensors "
            "have a row for each sample"
        )
    return run.strategy.total(0 if is_padding else samples)
