"""What it costs to measure where the time goes: the same fit with ``plugins={"timing": True}`` and without."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any

from benchmarks import tasks
from benchmarks.cases.case import Budget, Case
from benchmarks.contenders import Contender
from benchmarks.figures import Clock, Comparison, Spent, compare
from benchmarks.job import Job, Unsupported
from benchmarks.tasks import Task
from benchmarks.turns import WARM_UP


@dataclass(frozen=True, kw_only=True)
class TimingCase(Case):
    """Microseconds a step, beside a fit that is not timed, which takes the place of the loop by hand.

    Attributes:
        size: Steps in a turn.
        task: What is trained.
        callbacks: Empty callbacks, which are timed.
    """

    unit: str = "us a step, beside the same fit without"
    size: int = 200
    task: Task = tasks.MLP
    callbacks: int = 5

    def measure(self, contender: Contender, turns: int) -> dict[Clock, Comparison]:
        if contender.DISTRIBUTION != "trainkit":
            raise Unsupported("has no such table")
        batch = self.task.batch()
        jobs = [Job(self.task, None, callbacks=self.callbacks, timing=timing) for timing in (False, True)]
        fits = [Beside(lambda batches, job=each: contender.fit(replace(job, batches=batches)), batch) for each in jobs]
        spent = Spent(), Spent()
        for turn in range(turns + WARM_UP):
            # The other one first in every second turn: whoever comes second finds other things in the caches.
            for index in (0, 1) if turn % 2 else (1, 0):
                spent[index].begin()
                fits[index](self.size)
                spent[index].end()
        for fit in fits:
            fit.end()
        return compare(*spent, per_second=1e6 / self.size, warm_up=WARM_UP)


class Beside:
    """A fit in a thread of its own, which makes as many steps as it is told to, and waits in between.

    Args:
        fit: Trains on the batches it is given.
        batch: What every step trains on.
    """

    def __init__(self, fit: Callable[[Any], None], batch: Any) -> None:
        self._batch = batch
        self._steps: int | None = 0
        self._may_go, self._has_done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(fit,), daemon=True)
        self._thread.start()

    def __call__(self, steps: int) -> None:
        """Make so many steps, and return when they are done."""
        self._steps = steps
        self._may_go.release()
        self._has_done.acquire()

    def __len__(self) -> int:
        return 10**9  # more than anybody asks for

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._turns())

    def end(self) -> None:
        """End the fit."""
        self._steps = None
        self._may_go.release()
        self._thread.join()

    def _run(self, fit: Callable[[Any], None]) -> None:
        with suppress(_Over):
            fit(self)

    def _turns(self) -> Iterator[Iterator[Any]]:
        while True:
            self._may_go.acquire()
            if self._steps is None:
                raise _Over
            yield repeat(self._batch, self._steps)
            # Asked for the next batch: the step on the last one is done.
            self._has_done.release()


class _Over(Exception):
    """Ends a fit that has batches for ever."""


CASES: dict[str, Case] = {
    "timing": TimingCase(title="step that is timed", budget=Budget("ratio", 1.01)),
    "timing-transformer": TimingCase(
        title="step of a small transformer that is timed",
        budget=Budget("ratio", 1.01),
        size=10,
        task=tasks.TRANSFORMER,
        turns=60,
    ),
}
