"""Which updates have a row of metrics: what ``log_every_n_steps`` says."""

from __future__ import annotations

from typing import Any

from trainkit.interval import Interval
from trainkit.loops.agreement import Agreement
from trainkit.loops.cadence import Cadence
from trainkit.progress import Progress
from trainkit.strategies.base import Strategy


class Rows:
    """Tells which updates have a row of metrics.

    Where that goes by steps it is known ahead. By another unit, an update has one if it is the first since the count
    has come to a multiple of the interval.

    Args:
        every: From one row to the next; None if there are no rows of steps.
        progress: The counters of the run.
        strategy: Agrees on the time.

    Attributes:
        every: The same.
    """

    def __init__(self, every: Interval | None, progress: Progress, strategy: Strategy) -> None:
        self.every = every
        self._progress = progress
        # As it begins to count: from here, or from what `load_state_dict` restores.
        self._step = progress.global_step
        self._has_row = False
        goes_by_steps = every is None or every.unit == "steps"
        self._cadence = None if every is None or goes_by_steps else Cadence(every, progress, strategy, "rows")

    def follow(self, agreement: Agreement) -> None:
        """Go by the time on which ranks come to an ``agreement``, where rows go by time."""
        if self._cadence is not None:
            self._cadence.agreement = agreement

    @property
    def are_foreseen(self) -> bool:
        """Whether it is known ahead of an update."""
        return self._cadence is None

    def may_have(self, step: int) -> bool:
        """Whether the update ``step`` has a row, as far as that is known ahead of it."""
        return self.every is not None and (self._cadence is not None or step % self.every.size == 0)

    def newest_has_one(self) -> bool:
        """Whether the newest update has a row. All who ask behind one update get one answer; all ranks ask."""
        step = self._progress.global_step
        if self._cadence is None:
            return self.may_have(step)
        if step != self._step:
            self._step, self._has_row = step, self._cadence.passed() > 0
        return self._has_row

    def state_dict(self) -> dict[str, Any]:
        """Return the newest answer, and what it goes by; empty where all is known ahead."""
        if self._cadence is None:
            return {}
        return {"step": self._step, "is_due": self._has_row, "seen": self._cadence.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, be it in a run that went by another unit."""
        if self._cadence is not None and state:
            self._step, self._has_row = state["step"], state["is_due"]
            self._cadence.load_state_dict(state["seen"])
