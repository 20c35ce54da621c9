"""When a run validates and when it ends: the questions a loop asks after every batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from trainkit.interval import Interval
from trainkit.progress import Progress

NO_LIMIT = math.inf


@dataclass(slots=True)
class Limits:
    """How long to train and when to validate.

    Attributes:
        max_epochs: Epochs after which training ends.
        min_epochs: Epochs before which ``should_stop`` is not honoured.
        max_steps: Optimizer updates after which training ends.
        min_steps: Optimizer updates before which ``should_stop`` is not honoured.
        max_time_s: Seconds after which training ends, those of earlier processes included.
        validate: Whether there is anything to validate.
        validate_every_n_epochs: Epochs from one epoch with validation to the next; None counts batches across epochs.
        validate_every_n_batches: Batches from one validation to the next; infinite means after the epoch's last batch.
        batches_between: Gives ``validate_every_n_batches`` for the batches of an epoch (None: unknown), if that varies.
        validate_every: What is to be counted over the whole run from one validation to the next, instead of all these;
            seconds are those since the last validation, which a `Clock` counts.
        num_batches: Batches of the running epoch; None if nobody knows.
    """

    max_epochs: float = NO_LIMIT
    min_epochs: int = 0
    max_steps: float = NO_LIMIT
    min_steps: int = 0
    max_time_s: float = NO_LIMIT
    validate: bool = False
    validate_every_n_epochs: int | None = 1
    validate_every_n_batches: float = NO_LIMIT
    batches_between: Callable[[int | None], float] | None = None
    validate_every: Interval | None = None
    num_batches: int | None = None

    def start_epoch(self, num_batches: int | None) -> None:
        """Settle what holds for an epoch with so many batches: loaders that are made anew may have others."""
        self.num_batches = num_batches
        if self.batches_between is not None:
            self.validate_every_n_batches = self.batches_between(num_batches)

    def reached(self, progress: Progress) -> bool:
        """Whether training has come to a limit of epochs or steps."""
        return progress.epoch >= self.max_epochs or progress.global_step >= self.max_steps

    def stop_allowed(self, progress: Progress) -> bool:
        """Whether ``should_stop`` may be honoured yet."""
        return progress.epoch >= self.min_epochs and progress.global_step >= self.min_steps

    def validation_due(self, progress: Progress) -> bool:
        """Whether the newest batch is one after which to validate, by whatever is counted but seconds."""
        every = self.validate_every
        if every is not None:
            # Whole epochs: one that was left early is made up for at the end of the next.
            may_be_due = progress.is_last or every.unit != "epochs"
            return may_be_due and every.passed(every.count_at_validation(progress), every.count(progress)) > 0
        if self.validate_every_n_epochs is None:
            # Counted across epochs, whatever their length.
            return progress.total_batches % self.validate_every_n_batches == 0
        if (progress.epoch + 1) % self.validate_every_n_epochs:
            return False
        if self.validate_every_n_batches == NO_LIMIT:
            # Not by count: a loader may not know its length, or end before it.
            return progress.is_last
        return progress.batch % self.validate_every_n_batches == 0

    def quiet_batches(self, progress: Progress) -> float:
        """Return the least number of batches after which something can be due; 0 is "look after each".

        What is due after a last batch that nobody can foresee is not counted: the loop looks there anyway.
        """
        # A clock may run out after any batch.
        if self.max_time_s < NO_LIMIT:
            return 0
        # A batch makes one update at most.
        until_end = self.max_steps - progress.global_step
        if not self.validate:
            return until_end
        if self.validate_every is not None:
            until_validation = self._quiet_batches_of(self.validate_every, progress)
        elif self.validate_every_n_epochs is None:
            until_validation = -progress.total_batches % self.validate_every_n_batches or self.validate_every_n_batches
        elif self.validate_every_n_batches == NO_LIMIT:
            until_validation = self._left_of_epoch(progress)
        else:
            until_validation = -progress.batch % self.validate_every_n_batches or self.validate_every_n_batches
        return min(until_end, until_validation)

    def _quiet_batches_of(self, every: Interval, progress: Progress) -> float:
        if every.unit == "epochs":
            return self._left_of_epoch(progress)
        # How many samples the next batch has, and how long it takes, nobody knows.
        is_foreseen = every.unit in ("steps", "batches")
        return every.left(every.count_at_validation(progress), every.count(progress)) if is_foreseen else 0

    def _left_of_epoch(self, progress: Progress) -> float:
        return NO_LIMIT if self.num_batches is None else self.num_batches - progress.batch


class Clock:
    """Lets ``progress.elapsed_s`` run, and keeps the time since the last validation of this process."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._validated_at_s = progress.elapsed_s

    def start(self) -> None:
        """Count from now on."""
        self._progress.start_clock()
        self._validated_at_s = self._progress.elapsed_s

    def since_validation_s(self) -> float:
        """Seconds since the last validation."""
        return self._progress.elapsed_s - self._validated_at_s

    def mark_validation(self) -> None:
        """A validation has just ended."""
        self._validated_at_s = self._progress.elapsed_s
