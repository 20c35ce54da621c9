"""When something is due that goes by an interval: saves, rows of metrics, schedules.

Validation has `Limits`: several ask whether it is due behind one batch, and it stays due until it was made.
"""

from __future__ import annotations

from typing import Annotated

from trainkit.interval import Interval
from trainkit.loops.agreement import Agreement
from trainkit.progress import Progress
from trainkit.storage.schema import AtLeast
from trainkit.strategies.base import Strategy

MOST_PASSED = 10**6
"""How many multiples can have passed between two looks: a schedule steps once for each."""

Passed = Annotated[int, AtLeast(0, most=MOST_PASSED)]
"""So many, in the state of a plugin."""

Seen = dict[str, float]
"""The count that was seen last, by the unit that was counted."""


class Cadence:
    """Tells how often an interval has passed since it was last asked.

    What it has seen is part of the state of who asks it, so that a run that continues misses nothing and does nothing
    twice. `FitRun.cadence` makes one.

    Args:
        interval: The interval.
        progress: The counters of the run.
        strategy: Agrees on the time at which it begins, which clocks of ranks tell differently.
        name: What ranks know it by, if it goes by time.

    Attributes:
        interval: The same.
        agreement: By which ranks agree on the time from then on, without waiting for each other as long as it is not
            due. The run sets it.
    """

    def __init__(self, interval: Interval, progress: Progress, strategy: Strategy, name: str = "") -> None:
        self.interval = interval
        self.agreement: Agreement | None = None
        self._name = name
        self._progress = progress
        goes_by_time = interval.unit == "seconds"
        self._seen: float = strategy.agreed(self._own_count) if goes_by_time else self._own_count()

    def passed(self) -> int:
        """Return how many multiples of the interval the count has come to since this was last asked. All ranks ask."""
        before, self._seen = self._seen, self._count()
        return self.interval.passed(before, self._seen)

    def state_dict(self) -> Seen:
        """Return what was seen last."""
        return {self.interval.unit: self._seen}

    def load_state_dict(self, state: Seen) -> None:
        """Go on from what `state_dict` returned; from now, if that is of another unit or cannot be."""
        seen, now = state.get(self.interval.unit, self._seen), self._seen
        # Samples are counted anew where a part of the run has not counted them, and a file may say anything.
        if 0 <= seen <= now and self.interval.passed(seen, now) <= MOST_PASSED:
            self._seen = seen

    def _count(self) -> float:
        now = self._own_count()
        if self.interval.unit != "seconds" or self.agreement is None:
            return now
        is_due = self.interval.passed(self._seen, now) > 0
        agreed = self.agreement.time_of(self._name, now if is_due else None)
        return self._seen if agreed is None else max(agreed, self._seen)

    def _own_count(self) -> float:
        return self.interval.count(self._progress)
