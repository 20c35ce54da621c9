"""Counting what an iterator gives, without a line of Python for each item."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import compress, repeat
from operator import length_hint
from typing import TypeVar

T = TypeVar("T")


class Tally:
    """How many items have passed.

    Example::

        tally = Tally()
        for item in tally.of(items):
            ...  # tally.passed is 1, 2, 3
    """

    def __init__(self) -> None:
        self.set(0)

    def set(self, passed: int) -> None:
        """Go on from ``passed``."""
        self._before = passed
        self._ticks = repeat(True, sys.maxsize)

    def of(self, items: Iterable[T]) -> Iterator[T]:
        """Return an iterator over ``items`` that counts each before it gives it out."""
        # For each item compress() takes a tick; how many are left can be asked. Two generators that count with a line
        # of Python cost a step 1 us.
        return compress(items, self._ticks)

    @property
    def passed(self) -> int:
        """How many items have passed."""
        return self._before + sys.maxsize - length_hint(self._ticks)
