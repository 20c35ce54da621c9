"""`Sample`: what measured steps say about those that were not measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

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
        left = self.steps - self.measured
        self._ratios = {}
        for slow, each in self.slow.items():
            if each.steps and each.measured >= ENOUGH:
                left -= each.steps
                more_s = sum(spent.in_slow.get(slow, (0, 0.0))[1] for spent in all_spent)
                self._ratios[slow] = each.steps / each.measured, each.seconds / more_s if more_s else 0.0
        more_s = sum(each.more_seconds for each in all_spent)
        self._usual = (left / self.weight, self.usual_seconds / (more_s or 1.0)) if self.weight else (0.0, 0.0)

    def seconds_of(self, spent: Spent) -> float:
        """Return the seconds of something, that of unmeasured steps included."""
        in_slow = sum(per_s * spent.in_slow.get(slow, (0, 0.0))[1] for slow, (_, per_s) in self._ratios.items())
        return spent.seconds + self._usual[1] * spent.more_seconds + in_slow

    def calls_of(self, spent: Spent) -> int:
        """Return about how often something was called, in unmeasured steps too."""
        in_slow = sum(per_call * spent.in_slow.get(slow, (0.0, 0))[0] for slow, (per_call, _) in self._ratios.items())
        return spent.calls + round(self._usual[0] * spent.more_calls + in_slow)

    _usual: tuple[float, float] = field(default=(0.0, 0.0), init=False)
    _ratios: dict[int, tuple[float, float]] = field(default_factory=dict, init=False)
