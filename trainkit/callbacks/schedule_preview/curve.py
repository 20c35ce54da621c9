"""One learning rate over the updates of a run: its extremes, and its means over stretches of equal length."""

from __future__ import annotations

_NOISE = 1e-9
"""By so small a share rates differ that are meant to be one, as schedules compute in floats."""


class Curve:
    """A learning rate over the updates of a run, of which only as much is kept as is drawn.

    Args:
        name: Its name.
        updates: How many updates there are going to be.
        stretches: Into how many stretches they are divided, if there are as many.

        why_not: Why it cannot be foreseen; None if it can.

    Attributes:
        name: The same.
        why_not: The same.
        first: The rate of the first update.
        last: The rate of the newest one.
        highest: The highest.
        highest_at: The index of the first update with that.
        lowest: The lowest.
    """

    def __init__(self, name: str, updates: int, stretches: int, why_not: str | None = None) -> None:
        self.name = name
        self.why_not = why_not
        self._updates = updates
        self._sums = [0.0] * min(updates, stretches)
        self._counts = [0] * len(self._sums)
        self.first = self.last = self.highest = self.lowest = 0.0
        self.highest_at = 0

    def add(self, index: int, rate: float) -> None:
        """Take the rate of the update with this index."""
        if not index:
            self.first = self.highest = self.lowest = rate
        elif rate > self.highest * (1 + _NOISE):
            self.highest, self.highest_at = rate, index
        elif rate < self.lowest * (1 - _NOISE):
            self.lowest = rate
        self.last = rate
        stretch = index * len(self._sums) // self._updates
        self._sums[stretch] += rate
        self._counts[stretch] += 1

    @property
    def is_constant(self) -> bool:
        """Whether all rates are one, but for what floats lose."""
        return self.lowest == self.highest

    def shares(self, width: int) -> list[float]:
        """Return ``width`` means as shares of the highest rate, from 0 to 1; NaN where the curve has ended before."""
        top = self.highest or 1.0
        means = [
            total / count / top if count else float("nan")
            for total, count in zip(self._sums, self._counts, strict=True)
        ]
        return [means[column * len(means) // width] for column in range(width)]
