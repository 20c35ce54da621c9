"""A stopwatch for things that run within each other: each moment is charged to the innermost of them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple


@dataclass(slots=True)
class Spent:
    """The time that something has taken, without what ran within it and is charged by itself.

    Attributes:
        calls: How often it was measured.
        seconds: How long that took: wall time of the host.
        more_calls: For how many calls that were not measured these stand.
        more_seconds: What these would have taken, if they were like those that were measured.
        in_slow: The same of steps that were slow, by how slow they were: for how many calls, and what these took.
    """

    calls: int = 0
    seconds: float = 0.0
    more_calls: float = 0.0
    more_seconds: float = 0.0
    in_slow: dict[int, tuple[float, float]] = field(default_factory=dict, kw_only=True)

    def stand_for(self, weight: float, calls: int, seconds: float, slow: int = 0) -> None:
        """Let what was measured in a step stand for others.

        Args:
            weight: For how many.
            calls: How often it was measured in this step.
            seconds: How long that took.
            slow: How slow the step was; 0 if it was a usual one.
        """
        if not slow:
            self.more_calls += weight * calls
            self.more_seconds += weight * seconds
            return
        more_calls, more_seconds = self.in_slow.get(slow, (0.0, 0.0))
        self.in_slow[slow] = more_calls + weight * calls, more_seconds + weight * seconds

    def clear(self) -> None:
        """Begin anew: nothing was measured."""
        self.calls, self.seconds, self.more_calls, self.more_seconds = 0, 0.0, 0.0, 0.0
        self.in_slow.clear()


class Stopwatch:
    """Measures functions, and stretches that begin in one place and end in another.

    Attributes:
        inner_s: What ran within the running one, and is charged already. Grows until that one ends.
        sampled: What was charged as one of a sample: to what, how many calls, and seconds. To be cleared by its reader.
    """

    def __init__(self) -> None:
        self.inner_s = 0.0
        self.sampled: list[tuple[Spent, int, float]] = []
        self._open: list[_Begun] = []

    def timed(self, function: Callable[..., Any], spent: Spent, *, sampled: bool = False) -> Callable[..., Any]:
        """Return ``function`` so that each call is charged to ``spent``.

        Args:
            function: Any function.
            spent: Where to add what it takes.
            sampled: Whether its calls are measured in some steps only, and stand for others.
        """

        def call(*values: Any) -> Any:
            outer_s, self.inner_s = self.inner_s, 0.0
            start_s = perf_counter()
            try:
                return function(*values)
            # Also of a call that raises.
            finally:
                self._charge(_Begun(spent, start_s, outer_s, sampled))

        return call

    def timed_generator(self, function: Callable[..., Any], spent: Spent, *, sampled: bool) -> Callable[..., Any]:
        """Return a generator function so that what runs between its yields is charged to ``spent``."""
        # Calling a generator function runs none of it: what has to be timed is each part of it.
        return lambda *values: _TimedGenerator(function(*values), self, spent, sampled)

    def begin(self, spent: Spent, *, sampled: bool = False) -> None:
        """Charge to ``spent`` what comes, until `end`."""
        self._open.append(_Begun(spent, perf_counter(), self.inner_s, sampled))
        self.inner_s = 0.0

    def end(self, spent: Spent) -> None:
        """End the newest stretch of ``spent``, and all that has begun within it; nothing if it has not begun."""
        if all(each.spent is not spent for each in self._open):
            return
        is_ended = False
        while not is_ended:
            newest = self._open.pop()
            self._charge(newest)
            is_ended = newest.spent is spent

    def end_within(self, spent: Spent) -> None:
        """End all that has begun within the newest stretch of ``spent``; nothing if that has not begun."""
        if any(each.spent is spent for each in self._open):
            while self._open[-1].spent is not spent:
                self._charge(self._open.pop())

    def clear(self) -> None:
        """Forget what has begun and was never ended."""
        self._open.clear()
        self.sampled.clear()
        self.inner_s = 0.0

    def _charge(self, begun: _Begun) -> None:
        spent, start_s, outer_s, sampled = begun
        whole_s = perf_counter() - start_s
        own_s = whole_s - self.inner_s
        spent.calls += 1
        spent.seconds += own_s
        if sampled:
            self.sampled.append((spent, 1, own_s))
        self.inner_s = outer_s + whole_s


class _Begun(NamedTuple):
    spent: Spent
    start_s: float
    outer_s: float
    """What had run by then within what is around it."""
    sampled: bool


class _TimedGenerator(Generator[Any, Any, Any]):
    """A generator that is timed while it runs, and not while it waits at its yield.

    `collections.abc.Generator` supplies ``__next__`` from ``send``.
    """

    def __init__(self, generator: Generator[Any, Any, Any], watch: Stopwatch, spent: Spent, sampled: bool) -> None:
        self._generator = generator
        # The first part counts as the call, the others as its rest.
        self._send = watch.timed(generator.send, spent, sampled=sampled)
        self._throw = watch.timed(generator.throw, spent, sampled=sampled)
        self._spent = spent
        self._sampled = watch.sampled if sampled else []
        self._parts = 0

    def send(self, value: Any) -> Any:
        self._count()
        return self._send(value)

    def throw(self, *error: Any) -> Any:
        self._count()
        return self._throw(*error)

    def close(self) -> None:
        self._generator.close()

    def _count(self) -> None:
        """Take back a part beyond the first, which would be counted as a call of its own."""
        if self._parts:
            self._spent.calls -= 1
            self._sampled.append((self._spent, -1, 0.0))
        self._parts += 1
