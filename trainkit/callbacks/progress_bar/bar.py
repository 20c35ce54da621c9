"""One progress bar: the count, the rate and the remaining time of an epoch or an evaluation, and their texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from trainkit.printable import printable

RATE_WINDOW_S = 5.0
"""Time constant of the rate: a batch that was seen this many seconds ago counts 1/e of a new one."""


GAP = "  "
"""What is between two parts of a line."""


class Bar:
    """Progress through the batches of an epoch or an evaluation.

    Args:
        label: Its name, such as "Epoch 1/3".
        total: Number of batches; None if it is unknown.
        done: Number of batches that are finished at the start, where an epoch is resumed.
        now: The time in seconds. Any clock will do, as long as all calls use the same one.
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
        """Set the number of finished batches."""
        passed_s = now - self._seen_at
        # Batches and seconds fade alike, and their quotient is the rate. An average of rates would count a short update
        # as much as a long one.
        fading = math.exp(-passed_s / RATE_WINDOW_S)
        self._recent_batches = self._recent_batches * fading + done - self.done
        self._recent_s = self._recent_s * fading + passed_s
        self.elapsed_s += passed_s
        self.done = done
        self._seen_at = now

    def resume(self, now: float) -> None:
        """Leave out the time since the last update, which was spent on a validation."""
        self._seen_at = now

    @property
    def fraction(self) -> float | None:
        """The finished share, from 0 to 1; None if the total is unknown."""
        # min: a loader may give more batches than its length said. Without batches it is finished at once.
        return None if self.total is None else min(1.0, self.done / self.total) if self.total else 1.0

    @property
    def rate(self) -> float | None:
        """Batches per second; None before the first batch."""
        return self._recent_batches / self._recent_s if self._recent_batches > 0 and self._recent_s > 0 else None

    # As text

    @property
    def count_text(self) -> str:
        """Such as ``120/400``."""
        return f"{self.done}" if self.total is None else f"{self.done}/{self.total}"

    @property
    def time_text(self) -> str:
        """The elapsed time, and while it runs the remaining time: ``0:03 < 0:07``."""
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
    # From 99.95 on, three digits are a whole number. "#" keeps trailing zeros, so that the width does not change.
    return f"{number:.0f}" if number >= 99.95 else f"{number:#.3g}"


def epoch_label(epoch: int, max_epochs: float | None) -> str:
    """Return the name of ``epoch``, which counts from 0, as bars show it: ``Epoch 1/3``."""
    return f"Epoch {epoch + 1}/{max_epochs}" if max_epochs is not None and max_epochs > 0 else f"Epoch {epoch + 1}"


def line_text(bars: Sequence[Bar], values: Mapping[str, float]) -> str:
    """Return the innermost of ``bars``, with the names of those around it, and the metrics in one line."""
    return GAP.join(line_parts(bars, values))


def line_parts(bars: Sequence[Bar], values: Mapping[str, float]) -> list[str]:
    """Return the parts of `line_text`, within none of which a line is to be broken."""
    bar = bars[-1]
    label = ", ".join(each.label for each in bars)
    parts = [f"{label}: {bar.count_text}", bar.time_text, bar.rate_text, *value_texts(values)]
    return [part for part in parts if part]


def values_text(values: Mapping[str, float]) -> str:
    """Return metrics in one line, such as ``train/loss 0.3123  val/accuracy [0] 0.9712 [1] 0.9518`` of two loaders."""
    return GAP.join(value_texts(values))


def value_texts(values: Mapping[str, float]) -> list[str]:
    """Return each metric with its name."""
    texts: dict[str, str] = {}
    for key, value in values.items():
        # A name for each loader would fill the line.
        name, _, loader = key.partition("/dataloader_idx_")
        texts[name] = f"{texts.get(name, printable(name))} {f'[{loader}] ' if loader else ''}{value:.4g}"
    return list(texts.values())


def wrapped(parts: Iterable[str], width: int) -> str:
    """Return ``parts`` in lines of at most ``width`` characters, as far as each part fits into one."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(GAP) + len(part) <= width:
            lines[-1] += GAP + part
        else:
            lines.append(part)
    return "\n".join(lines)
