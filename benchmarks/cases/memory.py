"""Whether memory grows with the number of steps."""

from __future__ import annotations

import gc
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

from benchmarks import tasks
from benchmarks.by_hand import training_loop
from benchmarks.cases.case import Budget, Case
from benchmarks.contenders import Contender
from benchmarks.figures import Clock, Comparison
from benchmarks.job import Job, Unsupported
from benchmarks.turns import Batch

MB = 2**20
STATM = Path("/proc/self/statm")


class Watched:
    """Batches that look how much memory the process has after a tenth of them and after all."""

    def __init__(self, batch: Batch, count: int) -> None:
        self.batch, self.count = batch, count
        self.resident: list[float] = []

    @property
    def growth(self) -> float:
        """By how many MB the process grew from the first look to the last."""
        return self.resident[-1] - self.resident[0]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        tenth = self.count // 10
        return chain(self._then_look(tenth), self._then_look(self.count - tenth))

    def _then_look(self, count: int) -> Iterator[Batch]:
        yield from repeat(self.batch, count)
        gc.collect()
        self.resident.append(resident_mb())


@dataclass(frozen=True, kw_only=True)
class Memory(Case):
    """MB by which a process grows from a tenth of the steps to all, the loss logged at each. A turn is 1000 steps."""

    unit: str = "MB"
    clock: Clock = "resident"

    def measure(self, contender: Contender, turns: int) -> dict[Clock, Comparison]:
        if not STATM.exists():
            raise Unsupported(f"needs {STATM}")
        batch = tasks.MLP.batch()
        hand = Watched(batch, 1000 * turns)
        train = training_loop(tasks.MLP, batch)
        for _ in hand:
            train(1)
        theirs = Watched(batch, 1000 * turns)
        with tempfile.TemporaryDirectory() as folder:
            contender.fit(Job(tasks.MLP, theirs, folder=folder))
        return {"resident": Comparison.of([hand.growth], [theirs.growth])}


def resident_mb() -> float:
    """Return how much of the machine's memory this process holds."""
    return int(STATM.read_text().split()[1]) * resource.getpagesize() / MB


GROWTH = Memory(title="memory that grows from 1e4 to 1e5 steps", budget=Budget("difference", 1), turns=100)
CASES: dict[str, Case] = {
    "memory": GROWTH,
    "memory-1e6": Memory(
        title="memory that grows from 1e5 to 1e6 steps", budget=GROWTH.budget, turns=1000, by_default=False
    ),
}
