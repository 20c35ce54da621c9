"""`SlowOnes`: which steps take far longer than usual, and when the next one may come."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from time import perf_counter

COST_S = 60e-6
"""What it costs, at most, to measure one step: about thirty functions are put in place and taken out again."""

WORTH = 0.003
"""Which share of the time measuring may take; and half as much again, for steps that are foreseen to be slow."""

NOTICED = 0.02
"""Below this share of the time, slow steps are not worth measuring: a machine that does other things has some."""

SLOW = 3
"""A step that takes more than so many usual ones is slow: usual ones do not say what it is made of."""

NEWEST = 31
"""How many of the newest measured steps tell how long a usual one takes."""

REMEMBERED = 4
"""How many slow steps are remembered. The distance to each of them may be that at which they recur."""


class SlowOnes:
    """Knows how long a usual step takes, and at which distances slow ones recur.

    Attributes:
        newest_s: How long the newest measured steps took.
        usual_s: How long a usual one takes.
        limit_s: A step that takes longer is slow.
    """

    def __init__(self) -> None:
        self.newest_s: deque[float] = deque(maxlen=NEWEST)
        self.usual_s = 0.0
        self.limit_s = math.inf
        self._begun_s = perf_counter()
        self._indices: deque[int] = deque(maxlen=REMEMBERED)
        self._distances: dict[int, int] = {}  # by the step that is foreseen to be slow
        self._num_foreseen = 0
        self._beyond_s = 0.0  # what slow ones took beyond usual ones

    def learn(self, took_s: float) -> None:
        """Take in how long a measured step took."""
        self.newest_s.append(took_s)
        self.usual_s = median(self.newest_s)
        self.limit_s = SLOW * self.usual_s

    def how_slow(self, took_s: float) -> int:
        """Return 0 for a usual step, and for a slow one a number that is the same for those that are about as slow."""
        return math.frexp(took_s * 1e9)[1] if took_s > self.limit_s else 0

    def add(self, index: int, took_s: float) -> None:
        """Remember a slow step, and foresee others at the distances that it has to those before it."""
        self._beyond_s += took_s - self.usual_s
        known = self._distances.pop(index, None)
        for distance in [index - each for each in self._indices] if known is None else [known]:
            # What is not slow after all costs as much as what is.
            if self._is_worth_it():
                self._num_foreseen += index + distance not in self._distances
                self._distances[index + distance] = distance
        self._indices.append(index)

    def foreseen(self, index: int) -> float:
        """Return the next step behind ``index`` that is foreseen to be slow; infinite if there is none."""
        for past in [each for each in self._distances if each <= index]:
            del self._distances[past]
        return min(self._distances, default=math.inf)

    def _is_worth_it(self) -> bool:
        passed_s = perf_counter() - self._begun_s
        return COST_S * (self._num_foreseen + 1) <= WORTH / 2 * passed_s and self._beyond_s >= NOTICED * passed_s
