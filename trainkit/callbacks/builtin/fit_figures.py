"""What a fit has done in this process: its time, and its speed in samples or batches."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainkit.callbacks.progress_bar.bar import duration_text, three_digits

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


@dataclass(slots=True)
class Figures:
    """What a fit has done in this process.

    Attributes:
        began_at: When training began, in seconds.
        counted_until: How many batches of the running epoch are counted, or are of an earlier process.
        first_step: How many steps are of earlier fits and processes.
        batches: Training batches.
        samples: The samples in them, on all ranks; None if a loader does not tell.
        validated_s: Seconds in validations.
        validations: How many of these there were.
        validates_since: When the running validation began; None if there is none.
    """

    began_at: float
    counted_until: int
    first_step: int
    batches: int = 0
    samples: int | None = 0
    validated_s: float = 0.0
    validations: int = 0
    validates_since: float | None = None

    def count(self, trainer: Trainer) -> None:
        """Count the batches of the running epoch that are not counted yet."""
        start, end, loader = self.counted_until, trainer.progress.batch, trainer.train_dataloader
        if end <= start:  # the epoch was over, and the next one has not begun
            return
        self.counted_until = end
        self.batches += end - start
        before, after = samples_of(loader, start), samples_of(loader, end)
        if self.samples is None or before is None or after is None:
            self.samples = None
        else:
            self.samples += (after - before) * trainer.strategy.data_world_size

    def end_validation(self, now: float) -> None:
        """Add the time of the validation that is running, if one is."""
        if self.validates_since is not None:
            self.validated_s += now - self.validates_since
            self.validates_since = None
            self.validations += 1

    def text(self, now: float) -> str:
        """Return the time, and the speed of training without that of validations."""
        trained_s = now - self.began_at - self.validated_s
        parts = [duration_text(now - self.began_at)]
        if self.validated_s >= 1:
            parts[0] += f", {duration_text(self.validated_s)} of it in validations"
        done, unit = (self.batches, "batches") if self.samples is None else (self.samples, "samples")
        if done and trained_s > 0:
            parts.append(f"{three_digits(done / trained_s)} {unit}/s")
        return "; ".join(parts)


def samples_of(loader: Any, num_batches: int) -> int | None:
    """Return how many samples the first batches of an epoch have; None if ``loader`` does not tell how large they are.

    Of a loader without length the last batch may be shorter than that.
    """
    size = getattr(loader, "batch_size", None)
    if not isinstance(size, int):
        return None
    samples = num_batches * size
    with suppress(TypeError):  # some samplers, and loaders of iterables, have no length
        samples = min(samples, len(getattr(loader, "sampler", None)))  # type: ignore[arg-type]
    return samples
