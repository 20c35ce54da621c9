"""What a run costs before its first step and after its last."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import tasks
from benchmarks.by_hand import training_loop
from benchmarks.cases.case import Case
from benchmarks.contenders import Contender
from benchmarks.figures import Clock, Comparison, Spent, compare
from benchmarks.job import Job
from benchmarks.turns import WARM_UP, Repeated


@dataclass(frozen=True, kw_only=True)
class FitCall(Case):
    """Milliseconds of a whole run of two steps: making the network, the optimizer and the trainer, and fitting."""

    unit: str = "ms"

    def measure(self, contender: Contender, turns: int) -> dict[Clock, Comparison]:
        task = tasks.MLP
        batch = task.batch()
        hand, theirs = Spent(), Spent()
        for _ in range(turns + WARM_UP):
            hand.begin()
            training_loop(task, batch)(2)
            hand.end()
            theirs.begin()
            contender.fit(Job(task, Repeated(batch, 2)))
            theirs.end()
        return compare(hand, theirs, per_second=1e3, warm_up=WARM_UP)


CASES: dict[str, Case] = {"fit-call": FitCall(title="a whole fit of two steps", turns=30)}
