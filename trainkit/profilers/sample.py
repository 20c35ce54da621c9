"""`Sample`: what measured steps say about those that were not measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from trainkit.hooks.stopwatch import Spent

ENOUGH = 10
"""So many steps that are about as slow have to be measured, before others are taken to be like them."""


@dataclass(slots=True)
class SlowSteps:
    """Steps that are about as slow as each other, and slower than a usual one.

    Attributes:
        steps: Those that were not measured.
        seconds: How long these took.
        measured: Those that were, and stand for them.
    """

    steps: int = 0
    seconds: float = 0.0
    measured: int = 0


@dataclass(slots=True)
class Sample:
    """What is known of the steps that were not measured.

    Attributes:
        steps: All training batches.
        measured: Those that were measured.
        weight: For how many others the usual ones of these were chosen to stand, in all.
        unmeasured: The time of all other usual steps together, which is known exactly.
        usual_s: How long a usual step takes.
        slow: The steps that were slow, by how slow they were.
    """

    steps: int = 0
    measured: int = 0
    weight: float = 0.0
    unmeasured: Spent = field(default_factory=Spent)
    usual_s: float = 0.0
    slow: defaultdict[int, SlowSteps] = field(default_factory=lambda: defaultdict(SlowSteps))

    @property
    def unexplained(self) -> list[SlowSteps]:
        """Slow steps of a kind of which too few were measured to say what they are made of."""
        return [each for each in self.slow.values() if each.steps and each.measured < ENOUGH]

    @property
    def usual_seconds(self) -> float:
        """The time of all usual steps that were not measured, and of slow ones as if they had been usual."""
        return self.unmeasured.seconds + sum(each.seconds for each in self.unexplained) - self.unexplained_s

    @property
    def unexplained_s(self) -> float:
        """What these took beyond usual ones."""
        return sum(max(0.0, each.seconds - each.steps * self.usual_s) for each in self.unexplained)

    def divide(self, all_spent: Sequence[Spent]) -> None:
        """Let ``all_spent``, all that is measured in a step, share the time of those that were not."""
        # The time of steps as a whole is known; what was measured only says how it is divided.
        explained = {slow: each for slow, each in self.slow.items() if each.steps and each.measured >= ENOUGH}
        left = self.steps - self.measured - sum(each.steps for each in explained.values())
        more_s = sum(each.more_seconds for each in all_spent)
        self._usual = _Kind(left, self.weight, self.usual_seconds if self.weight else 0.0, more_s)
        self._slow = {
            slow: _Kind(
                each.steps, each.measured, each.seconds, sum(_of(spent, slow).more_seconds for spent in all_spent)
            )
            for slow, each in explained.items()
        }

    def seconds_of(self, spent: Spent) -> float:
        """Return the seconds of something, that of unmeasured steps included."""
        in_slow = sum(kind.seconds_of(_of(spent, slow).more_seconds) for slow, kind in self._slow.items())
        return spent.seconds + self._usual.seconds_of(spent.more_seconds) + in_slow

    def calls_of(self, spent: Spent) -> int:
        """Return about how often something was called, in unmeasured steps too."""
        in_slow = sum(kind.calls_of(_of(spent, slow).more_calls) for slow, kind in self._slow.items())
        return spent.calls + round(self._usual.calls_of(spent.more_calls) + in_slow)

    _usual: _Kind = field(default_factory=lambda: _Kind(), init=False)
    _slow: dict[int, _Kind] = field(default_factory=dict, init=False)


class _Kind(NamedTuple):
    """Steps that are alike, and what measured ones of them stand for."""

    steps: int = 0
    weight: float = 0.0
    seconds: float = 0.0
    more_seconds: float = 0.0

    def seconds_of(self, more_seconds: float) -> float:
        return self.seconds * (more_seconds / self.more_seconds) if self.more_seconds else 0.0

    def calls_of(self, more_calls: float) -> float:
        return self.steps * (more_calls / self.weight) if self.weight else 0.0


class _More(NamedTuple):
    more_calls: float = 0.0
    more_seconds: float = 0.0


def _of(spent: Spent, slow: int) -> _More:
    return _More(*spent.in_slow.get(slow, ()))
