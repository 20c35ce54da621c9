"""The rows behind the checkpoint from which a run goes on: each is kept until the run has passed it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

Row = tuple[int, frozenset[str]]
"""The step of a row, and the names of its metrics."""


class RowsBehind:
    """Training rows that were written after a checkpoint, in their order; a run that goes on from it logs them again.

    They are not removed before, so that a run that fails or is killed at once loses none.

    Args:
        rows: Those rows.

    Attributes:
        passed: How many of them, from the first on, the run has passed.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.passed = 0
        self._rows = rows
        self._newest_step: int | None = None
        self._places: defaultdict[Row, deque[int]] = defaultdict(deque)
        for place, row in enumerate(rows):
            self._places[row].append(place)

    @property
    def are_passed(self) -> bool:
        """Whether the run has logged something, and none is left."""
        return self._newest_step is not None and self.passed == len(self._rows)

    def log(self, step: int, names: Iterable[str]) -> None:
        """Pass what a new row takes the place of: all up to the same row, or else those of earlier steps."""
        self._newest_step = step
        places = self._places[step, frozenset(names)]
        while places and places[0] < self.passed:
            places.popleft()
        # By their order, since users may log at steps of their own, which need not grow.
        if places:
            self.passed = places.popleft() + 1
        else:
            self._pass_before(step)

    def finish(self) -> None:
        """Pass those of the newest step too, since nothing more will be logged."""
        if self._newest_step is not None:
            self._pass_before(self._newest_step + 1)

    def _pass_before(self, step: int) -> None:
        while self.passed < len(self._rows) and self._rows[self.passed][0] < step:
            self.passed += 1
