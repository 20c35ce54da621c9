"""What every case has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.contenders import Contender
from benchmarks.figures import Clock, Comparison


@dataclass(frozen=True)
class Budget:
    """What trainkit may cost at most.

    Attributes:
        figure: What is limited, in the case's unit: the difference to the loop written by hand, or the ratio.
        at_most: The limit.
    """

    figure: Literal["difference", "ratio"]
    at_most: float

    def is_met(self, comparison: Comparison) -> bool:
        """Whether the median stays below the limit."""
        median: float = getattr(comparison, self.figure).median
        return median <= self.at_most


@dataclass(frozen=True, kw_only=True)
class Case(ABC):
    """Something that the loop written by hand does, and every contender.

    Attributes:
        title: What it is called in reports.
        unit: In what its figures are given.
        clock: The clock that counts: "wall" where a device or a disk is waited for, otherwise "cpu".
        budget: What trainkit may cost.
        turns: How many pairs are measured, if nothing else is asked for.
        by_default: Whether it is measured if no cases are named.
    """

    title: str
    unit: str
    clock: Clock = "cpu"
    budget: Budget | None = None
    turns: int = 200
    by_default: bool = field(default=True)

    @abstractmethod
    def measure(self, contender: Contender, turns: int) -> dict[Clock, Comparison]:
        """Let ``contender`` take about ``turns`` turns with the loop written by hand.

        Raises:
            Unsupported: If it has nothing like that, or something is missing on this machine.
        """
