"""Taking turns: the loop written by hand and a contender, in one process, a few milliseconds each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from benchmarks.figures import Clock, Comparison, Spent, compare

Batch = Any
WARM_UP = 2


@dataclass(frozen=True)
class Repeated:
    """One batch, ``count`` times."""

    batch: Batch
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return repeat(self.batch, self.count)


@dataclass(frozen=True)
class Stream:
    """Batches whose number nobody knows before they end."""

    batches: Any

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


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
        self._under_way = False

    def __len__(self) -> int:
        return self.size * self.per_epoch

    def __iter__(self) -> Iterator[Batch]:
        return chain.from_iterable(self._turns())

    def comparison(self) -> dict[Clock, Comparison]:
        """Compare all turns but the first ones, which warm caches up, in microseconds a step.

        The contender's last turn stays open, as nothing is asked for after it.
        """
        return compare(self.hand, self.contender, per_second=1e6 / self.size, warm_up=WARM_UP)

    def _turns(self) -> Iterator[Iterator[Batch]]:
        for _ in range(self.per_epoch):
            if self._under_way:
                self.synchronize()
                self.contender.end()
            self.hand.begin()
            self.by_hand(self.size)
            self.synchronize()
            self.hand.end()
            self._under_way = True
            self.contender.begin()
            yield repeat(self.batch, self.size)
