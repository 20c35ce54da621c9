"""When a run validates and when it ends: the questions a loop asks after every batch."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

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
        max_time_s: Seconds after which training ends, those of earlier sessions included.
        validate: Whether there is anything to validate.
        validate_every_n_epochs: Epochs from one epoch with validation to the next; None counts batches across epochs.
        validate_every_n_batches: Batches from one validation to the next; infinite means after the epoch's last batch.
        validate_every_s: Seconds from one validation to the next, instead of batches.
    """

    max_epochs: float = NO_LIMIT
    min_epochs: int = 0
    max_steps: float = NO_LIMIT
    min_steps: int = 0
    max_time_s: float = NO_LIMIT
    validate: bool = False
    validate_every_n_epochs: int | None = 1
    validate_every_n_batches: float = NO_LIMIT
    validate_every_s: float | None = None

    def reached(self, progress: Progress) -> bool:
        """Whether training has come to a limit of epochs or steps."""
        return progress.epoch >= self.max_epochs or progress.global_step >= self.max_steps

    def stop_allowed(self, progress: Progress) -> bool:
        """Whether ``should_stop`` may be honoured yet."""
        return progress.epoch >= self.min_epochs and progress.global_step >= self.min_steps

    def validation_due(self, progress: Progress) -> bool:
        """Whether the newest batch is one after which to validate, by count."""
        if self.validate_every_n_epochs is None:
            return progress.total_batches % self.validate_every_n_batches == 0
        if (progress.epoch + 1) % self.validate_every_n_epochs:
            return False
        if self.validate_every_n_batches == NO_LIMIT:
            return progress.is_last
        return progress.batch % self.validate_every_n_batches == 0


class Clock:
    """Keeps ``progress.elapsed_s``, which a resumed run goes on counting, and the time since the last validation."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._ticked_at = time.monotonic()
        self._validated_at_s = progress.elapsed_s

    def start(self) -> None:
        """Count from now on."""
        self._ticked_at = time.monotonic()
        self._validated_at_s = self._progress.elapsed_s

    def tick(self) -> None:
        """Add the time since the last tick: after every batch."""
        now = time.monotonic()
        self._progress.elapsed_s += now - self._ticked_at
        self._ticked_at = now

    def since_validation_s(self) -> float:
        """Seconds from the last validation to the last tick."""
        return self._progress.elapsed_s - self._validated_at_s

    def mark_validation(self) -> None:
        """A validation has just ended."""
        self.tick()
        self._validated_at_s = self._progress.elapsed_s
