"""Medians of what was measured in pairs, and how far the pairs lie apart."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Clock = Literal["cpu", "wall", "resident"]


@dataclass(frozen=True)
class Spread:
    """The middle of some numbers: their median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Return the spread of ``values``, of which there is at least one."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Comparison:
    """The loop written by hand and a contender, measured in pairs.

    The difference of each pair is steadier than the difference of two medians, as whatever else the machine did met
    both halves of a pair alike.

    Attributes:
        hand: What the loop written by hand took.
        contender: What the contender took.
        difference: Contender less hand, pair by pair.
        ratio: Contender by hand, pair by pair.
        pairs: How many pairs there were.
    """

    hand: Spread
    contender: Spread
    difference: Spread
    ratio: Spread
    pairs: int

    @classmethod
    def of(cls, hand: list[float], contender: list[float]) -> Comparison:
        """Compare ``hand[i]`` with ``contender[i]``."""
        pairs = list(zip(hand, contender, strict=False))
        if not pairs:
            raise ValueError("no pair was measured: ask for more turns")
        return cls(
            hand=Spread.of([hand for hand, _ in pairs]),
            contender=Spread.of([contender for _, contender in pairs]),
            difference=Spread.of([contender - hand for hand, contender in pairs]),
            ratio=Spread.of([contender / hand if hand else 1.0 for hand, contender in pairs]),
            pairs=len(pairs),
        )

    @classmethod
    def from_dict(cls, figures: dict[str, Any]) -> Comparison:
        """Return what ``dataclasses.asdict`` made a dict of."""
        spreads = {name: Spread(**value) for name, value in figures.items() if name != "pairs"}
        return cls(**spreads, pairs=figures["pairs"])


@dataclass
class Spent:
    """Seconds that stretches of work took, one after the other.

    Attributes:
        cpu: Seconds that all threads of this process computed. A shared machine disturbs them least.
        wall: Seconds that passed.
    """

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    _began: tuple[float, float] | None = None

    def begin(self) -> None:
        self._began = time.process_time(), time.perf_counter()

    def end(self) -> None:
        assert self._began is not None, "end() without begin()"
        cpu, wall = self._began
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)


def compare(hand: Spent, contender: Spent, *, per_second: float, warm_up: int) -> dict[Clock, Comparison]:
    """Compare by both clocks.

    Args:
        hand: What the loop written by hand spent.
        contender: What the contender spent.
        per_second: How many of the case's units are a second of it.
        warm_up: So many pairs at the beginning are left out.
    """

    def scaled(seconds: list[float]) -> list[float]:
        return [per_second * each for each in seconds[warm_up:]]

    return {
        "cpu": Comparison.of(scaled(hand.cpu), scaled(contender.cpu)),
        "wall": Comparison.of(scaled(hand.wall), scaled(contender.wall)),
    }


def as_dicts(comparisons: dict[Clock, Comparison]) -> dict[Clock, dict[str, Any]]:
    """Return what can be written as JSON."""
    return {clock: asdict(comparison) for clock, comparison in comparisons.items()}
