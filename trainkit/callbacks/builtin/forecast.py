"""What is foretold early in a fit, the time to its end and the peak of memory, and how far off that was."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

import torch

from trainkit.callbacks.builtin.fit_figures import Figures
from trainkit.callbacks.progress_bar.bar import duration_text, three_digits
from trainkit.loops.limits import NO_LIMIT, Limits
from trainkit.loops.run import FitRun

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

BATCHES = 20
"""So many batches are watched, behind the first one, in which kernels are chosen and workers start."""

LONG_S = 10.0
"""An epoch that is shorter is watched to its end, so that what is saved and written in it counts too. Of a fit that is
shorter nothing is told."""

SHARE_OF_STEP = 1 / 3
"""What a validation batch takes of the time of a training batch, until one has been seen: it has no backward."""


class Forecast:
    """Foretells the time to the end of a fit, and its peak of memory.

    Args:
        trainer: Whose fit it is.
        figures: What the fit has done so far.
        say: Tells a line.
        clock: Gives the time in seconds.
    """

    def __init__(
        self,
        trainer: Trainer,
        figures: Figures,
        say: Callable[[str], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._trainer = trainer
        self._figures = figures
        self._say = say
        self._clock = clock
        self._batch_s = 0.0  # what a batch takes
        self._first_s = clock()  # when the first batch was done, and as many validations as this
        self._validated_s = figures.validated_s
        self._epoch: int | None = None  # the one to whose end it waits
        self._began_at = trainer.progress.total_batches
        self._told_at_s: float | None = None
        self._predicted_s = self._predicted_bytes = 0.0

    def first_batch(self) -> None:
        """The first batch is done: what comes is steady."""
        self._first_s, self._validated_s = self._clock(), self._figures.validated_s

    def some_batches(self) -> None:
        """As many batches are done as are watched."""
        trainer, run = self._trainer, self._trainer.fit_run
        self._batch_s = self._trained_s() / BATCHES
        num_batches = trainer.num_training_batches
        another = run.progress.epoch + 1 < run.limits.max_epochs
        if self._batch_s * num_batches < LONG_S and another:
            self._epoch = run.progress.epoch
        else:
            self._tell(batches_left(run, num_batches))

    def epoch_starts(self) -> None:
        """An epoch begins: the one before has shown all that belongs to one."""
        run = self._trainer.fit_run
        if self._epoch is None or self._told_at_s is not None or run.progress.epoch <= self._epoch:
            return
        self._epoch = None
        # From the first batch to here: all batches, but the first, and all that is done between them and at the end.
        num_batches = self._trainer.num_training_batches
        done = run.progress.total_batches - self._began_at
        if done > 1 and not math.isinf(num_batches):
            self._batch_s = self._trained_s() / (done - 1)
            self._tell(batches_left(run, num_batches))

    def outcome(self) -> str:
        """Return how far off it was; empty if nothing was told."""
        if self._told_at_s is None:
            return ""
        parts = []
        if self._predicted_s < NO_LIMIT:
            took_s = self._clock() - self._told_at_s
            parts.append(
                f"{duration_text(self._predicted_s)}, took {duration_text(took_s)}{_off(took_s, self._predicted_s)}"
            )
        peak = peak_bytes(self._trainer.strategy.device)
        if peak and self._predicted_bytes:
            parts.append(f"memory {_size(self._predicted_bytes)}, was {_size(peak)}{_off(peak, self._predicted_bytes)}")
        return "; ".join(parts)

    def _tell(self, left: float) -> None:
        run, figures = self._trainer.fit_run, self._figures
        num_validations = validations_left(run, left, self._trainer.num_training_batches)
        validation_s = self._validation_s(figures)
        seconds = left * self._batch_s + (num_validations * validation_s if num_validations else 0.0)
        seconds = min(seconds, run.limits.max_time_s - run.progress.elapsed_s)
        self._predicted_s = seconds
        self._predicted_bytes = peak = peak_bytes(self._trainer.strategy.device)
        if seconds < LONG_S or not self._batch_s:
            return
        self._told_at_s = self._clock()
        # In 80 columns: a bar that is drawn would break a longer line.
        memory = f"; peak memory {_size(peak)}" if peak else ""
        if math.isinf(seconds):
            self._say(f"trainkit: {three_digits(1 / self._batch_s)} batches/s{memory}")
            return
        plural = "s" if num_validations > 1 else ""
        checks = f", {int(num_validations):,} validation{plural}" if 0 < num_validations < NO_LIMIT else ""
        most = "at most " if self._trainer.early_stopping_callbacks else "about "
        batches = "" if math.isinf(left) else f": {int(left):,} batches{checks}"
        self._say(f"trainkit: {most}{duration_text(seconds)} to go{batches}{memory}")

    def _validation_s(self, figures: Figures) -> float:
        """Return what a validation takes, as far as one has been seen."""
        if figures.validations:
            return figures.validated_s / figures.validations
        return sum(self._trainer.num_val_batches) * self._batch_s * SHARE_OF_STEP

    def _trained_s(self) -> float:
        """Return how long was trained since the first batch, without validations."""
        return self._clock() - self._first_s - (self._figures.validated_s - self._validated_s)


class FirstBatches:
    """The plugin that counts the first batches of a fit for a `Forecast`, and leaves the loop then.

    Args:
        forecast: Whom to tell.
    """

    name = "FirstBatches"
    stage = "setup"  # first: in a checkpoint that is saved in this hook, it would be one that is yet to be called

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast
        self._done = 0

    def on_train_batch_end(self, trainer: Trainer) -> None:
        self._done += 1
        if self._done == 1:
            self._forecast.first_batch()
        elif self._done == BATCHES + 1:
            trainer.hooks.unregister(self)
            self._forecast.some_batches()


def batches_left(run: FitRun, num_batches: float) -> float:
    """Return how many batches are to come, at most; infinite if nobody knows.

    Args:
        run: The run.
        num_batches: Batches of an epoch; infinite if nobody knows.
    """
    progress, limits = run.progress, run.limits
    by_epochs = (limits.max_epochs - progress.epoch) * num_batches - progress.batch
    by_steps = (limits.max_steps - progress.global_step) * run.accumulation.size
    return max(0, min(by_epochs, by_steps))


def validations_left(run: FitRun, left: float, num_batches: float) -> float:
    """Return about how many validations are to come; infinite if that has no end, 0 if they go by the clock.

    Args:
        run: The run.
        left: How many batches are to come.
        num_batches: Batches of an epoch.
    """
    limits = run.limits
    if not limits.validate or not left:
        return 0
    if math.isinf(left):
        return left
    return max(0, (left + _since_validation(run, limits, num_batches)) // _batches_between(run, limits, num_batches))


def _batches_between(run: FitRun, limits: Limits, num_batches: float) -> float:
    """Return how many batches there are from one validation to the next, in the mean."""
    every = limits.validate_every
    if every is not None:
        if every.unit == "samples" and run.progress.samples:
            return every.size * run.progress.total_batches / run.progress.samples
        sizes = {"batches": 1, "steps": run.accumulation.size, "epochs": num_batches}
        return every.size * sizes.get(every.unit, NO_LIMIT)
    if limits.validate_every_n_epochs is None:
        return limits.validate_every_n_batches
    within = min(limits.validate_every_n_batches, num_batches)
    return within * limits.validate_every_n_epochs


def _since_validation(run: FitRun, limits: Limits, num_batches: float) -> float:
    """Return how many batches of the running stretch between two validations are done."""
    between = _batches_between(run, limits, num_batches)
    return 0 if math.isinf(between) else run.progress.total_batches % between


def peak_bytes(device: torch.device) -> int:
    """Return the most memory that this process has used so far: of ``device`` if that is a GPU, else of the host.

    0 where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # on Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _off(value: float, predicted: float) -> str:
    percent = 100 * (value - predicted) / predicted
    return f": {abs(percent):.0f} % {'more' if percent > 0 else 'less'}" if round(abs(percent)) else ""


def _size(number: float) -> str:
    unit = "GB" if number >= 1e9 else "MB"
    return f"{three_digits(number / (1e9 if unit == 'GB' else 1e6))} {unit}"
