"""One bar: how far a stretch of batches has come, how fast, and that in words."""

from __future__ import annotations

import math
from collections.abc import Mapping

REMEMBERED_S = 5.0
"""The speed is that of about the last so many seconds."""


class Bar:
    """A stretch of batches: an epoch, a validation.

    Args:
        label: What it is called.
        total: How many batches there are; None if nobody knows.
        done: How many are finished already.
        now: The time, in seconds of any clock.
    """

    def __init__(self, label: str, total: int | None, *, done: int = 0, now: float) -> None:
        self.label = label
        self.total = total
        self.done = done
        self.elapsed_s = 0.0
        self._seen_at = now
        self._recent_batches = 0.0
        self._recent_s = 0.0

    def update(self, done: int, now: float) -> None:
        """Note that ``done`` batches are finished."""
        passed_s = now - self._seen_at
        fading = math.exp(-passed_s / REMEMBERED_S)
        self._recent_batches = self._recent_batches * fading + done - self.done
        self._recent_s = self._recent_s * fading + passed_s
        self.elapsed_s += passed_s
        self.done = done
        self._seen_at = now

    def resume(self, now: float) -> None:
        """Note that the time since the last update was spent on something else."""
        self._seen_at = now

    @property
    def fraction(self) -> float | None:
        """The finished share; None if nobody knows."""
        return None if self.total is None else min(1.0, self.done / self.total) if self.total else 1.0

    @property
    def rate(self) -> float | None:
        """Batches per second; None if none has been seen."""
        return self._recent_batches / self._recent_s if self._recent_batches > 0 and self._recent_s > 0 else None

    # In words

    @property
    def count_text(self) -> str:
        """Such as ``120/400``."""
        return f"{self.done}" if self.total is None else f"{self.done}/{self.total}"

    @property
    def time_text(self) -> str:
        """The time it took, and while it runs, the time it will still take: ``0:03 < 0:07``."""
        elapsed = duration_text(self.elapsed_s)
        if self.total is None or self.rate is None or self.done >= self.total:
            return elapsed
        return f"{elapsed} < {duration_text((self.total - self.done) / self.rate)}"

    @property
    def rate_text(self) -> str:
        """Such as ``38.2 it/s``, or ``2.10 s/it`` where a batch takes longer than a second; empty if unknown."""
        if self.rate is None:
            return ""
        return f"{three_digits(self.rate)} it/s" if self.rate >= 1 else f"{three_digits(1 / self.rate)} s/it"


def duration_text(seconds: float) -> str:
    """Return ``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


def three_digits(number: float) -> str:
    """Return a positive number with three digits, or all of them before the decimal point."""
    return f"{number:.0f}" if number >= 99.95 else f"{number:#.3g}"


def values_text(values: Mapping[str, float]) -> str:
    """Return metrics in one line, such as ``train/loss 0.3123  val/accuracy 0.9712``."""
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
