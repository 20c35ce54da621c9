"""Taking turns: the loop written by hand and a contender, in one process, a few milliseconds each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

Batch = Any


@dataclass(frozen=True)
class Repeated:
    """One batch, ``count`` times."""

    batch: Batch
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return repeat(self.batch, self.count)


@dataclass
class Spent:
    """Microseconds a step, turn by turn.

    Attributes:
        cpu_us: Time that the thread computed. A shared machine disturbs it least.
        wall_us: Time that passed.
    """

    cpu_us: list[float] = field(default_factory=list)
    wall_us: list[float] = field(default_factory=list)


class Turns:
    """Batches for a contender, which stop now and then while the loop written by hand makes as many steps.

    A turn of the contender begins when it is given the first of ``size`` batches, and ends when it asks for the first
    one of the next turn: whatever it does meanwhile is in it. So what else the machine does meets both alike.

    Args:
        by_hand: Makes so many steps.
        batch: What every step trains on.
        size: Steps in a turn.
        per_epoch: Turns in an epoch. With one, what a contender does at the end of an epoch is in every turn.
        synchronize: Waits for the device, where there is one.
    """

    def __init__(
        self,
        by_hand: Callable[[int], None],
        batch: Batch,
        *,
        size: int,
        per_epoch: int,
        synchronize: Callable[[], None] = lambda: None,
    ) -> None:
        self.by_hand = by_hand
        self.batch = batch
        self.size = size
        self.per_epoch = per_epoch
        self.synchronize = synchronize
        self.hand, self.contender = Spent(), Spent()
        self._began: tuple[float, float] | None = None

    def __len__(self) -> int:
        return self.size * self.per_epoch

    def __iter__(self) -> Iterator[Batch]:
        return chain.from_iterable(self._turns())

    def result(self, warm_up: int = 2) -> dict[str, Any]:
        """Return medians over all turns but the first ones, which warm caches up."""
        return {
            clock: compare(getattr(self.hand, clock)[warm_up:], getattr(self.contender, clock)[warm_up:])
            for clock in ("cpu_us", "wall_us")
        }

    def _turns(self) -> Iterator[Iterator[Batch]]:
        for _ in range(self.per_epoch):
            self._end_turn(self.contender)
            self._begin_turn()
            self.by_hand(self.size)
            self._end_turn(self.hand)
            self._begin_turn()
            yield repeat(self.batch, self.size)

    def _begin_turn(self) -> None:
        self.synchronize()
        self._began = time.thread_time(), time.perf_counter()

    def _end_turn(self, spent: Spent) -> None:
        if self._began is None:
            return
        self.synchronize()
        cpu, wall = self._began
        spent.cpu_us.append(1e6 * (time.thread_time() - cpu) / self.size)
        spent.wall_us.append(1e6 * (time.perf_counter() - wall) / self.size)


def compare(hand: list[float], contender: list[float]) -> dict[str, float]:
    """Return the medians of both, and of their differences and ratios turn by turn, which are steadier."""
    pairs = list(zip(hand, contender, strict=False))
    if not pairs:
        raise ValueError("no turn was finished: ask for more turns")
    return {
        "hand": statistics.median(hand for hand, _ in pairs),
        "contender": statistics.median(contender for _, contender in pairs),
        "overhead": statistics.median(contender - hand for hand, contender in pairs),
        "ratio": statistics.median(contender / hand for hand, contender in pairs),
        "turns": len(pairs),
    }
