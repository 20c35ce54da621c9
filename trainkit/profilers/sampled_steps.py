"""`SampledSteps`: measures what a training step is made of, in some steps; the others run as without it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from time import perf_counter
from typing import Any

from torch.optim import Optimizer

from trainkit.data.counter import ItemCounter
from trainkit.hooks.bound import BoundHooks
from trainkit.hooks.stopwatch import Spent
from trainkit.hooks.timing import HookTimer
from trainkit.loops.run import FitRun
from trainkit.profilers.ledger import Sample
from trainkit.types import Batch

FIRST = 20
"""So many steps of a fit are all measured. They tell how long a step takes, and count as they are: the first ones
start workers, compile and choose kernels, and stand for no others."""

WARM_UP = 3
"""So many of them do not even count for how long a step takes."""

COST_S = 60e-6
"""What it costs, at most, to measure one step: about thirty functions are put in place and taken out again."""

WORTH = 0.005
"""Which share of the time measuring may take."""

_NOTHING = object()


class SampledSteps:
    """Measures the first steps of a fit, and then one in so many that it costs half a percent.

    Which ones is drawn, with a generator of its own, so that nothing that recurs is always met, or never. Between two
    of them no line of Python is added to the loop.

    Args:
        run: The run.
        hooks: Its hooks.
        timer: Measures the plugins.
        parts: Where to charge what a step is made of, by the names of shares.
    """

    def __init__(self, run: FitRun, hooks: BoundHooks, timer: HookTimer, parts: dict[str, Spent]) -> None:
        self.sample = Sample()
        self._run = run
        self._hooks = hooks
        self._timer = timer
        self._watch = timer.watch
        self._parts = parts
        self._random = random.Random(0)
        self._every = 1  # how many steps lie between two measured ones, in the mean
        self._first_s: list[float] = []  # how long the first ones took
        self._newest_s = 0.0  # when the newest measured one began
        self._began_at = self._newest = self._next = run.progress.total_batches
        self._restore: list[Callable[[], None]] = []
        self._current: object = None  # the measured step that is under way

    def measure(self, batches: Iterable[Batch], loader: Any) -> Iterable[Batch]:
        """Return an iterable of ``batches`` of one pass that measures some of the steps on them."""
        return chain.from_iterable(self._stretches(iter(batches)))

    def end_pass(self) -> None:
        """End what a pass has begun. The loop does not always ask for the end of its batches."""
        self._end_step(self._current)
        self._watch.end(self.sample.unmeasured)
        self.sample.steps = self._run.progress.total_batches - self._began_at

    def _stretches(self, batches: Iterator[Batch]) -> Iterator[Iterable[Batch]]:
        """Yield stretches of batches: those of steps that are left alone, then one that is measured, and so on."""
        self._watch.begin(self.sample.unmeasured)
        passed = ItemCounter()
        batches = passed.wrap(batches)
        left_alone = self._next - self._run.progress.total_batches
        if left_alone > 0:
            # Workers start with the first batch of a pass, which is known exactly, and stands for no others.
            yield self._waited_for(batches)
            left_alone -= 1
        while True:
            before = passed.passed
            yield islice(batches, max(0, left_alone))
            # A loader that has ended is not asked again.
            if passed.passed - before < left_alone:
                return
            before = passed.passed
            yield self._measured(batches)
            if passed.passed == before:
                return
            left_alone = self._next - self._newest - 1

    def _waited_for(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        self._watch.begin(self._parts["waiting for data"])
        batch = next(batches, _NOTHING)
        self._watch.end(self._parts["waiting for data"])
        if batch is not _NOTHING:
            yield batch

    def _measured(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield one batch, and measure the wait for it and all that is done until the next one is asked for."""
        index, data = self._run.progress.total_batches, self._parts["waiting for data"]
        step = self._begin_step()
        self._watch.begin(data, sampled=True)
        batch = next(batches, _NOTHING)
        weight = 0.0 if batch is _NOTHING else self._weight_of(index)
        self._watch.weight = weight
        self._watch.end(data)
        if batch is not _NOTHING:
            self.sample.weight += weight
            self.sample.measured += 1
            self._plan(index)
            yield batch
        self._end_step(step)

    def _weight_of(self, index: int) -> float:
        """Return for how many steps this one stands: those since the newest measured one."""
        done = index - self._began_at
        if done < FIRST:
            # Where nothing else is measured, the steps that follow are like the later ones of these.
            return 1e-6 if done >= WARM_UP else 0.0
        return float(index - self._newest - 1)

    def _plan(self, index: int) -> None:
        """Choose the next step that is measured."""
        done, now_s = index - self._began_at, perf_counter()
        if WARM_UP <= done < FIRST:
            self._first_s.append(now_s - self._newest_s)
        self._newest_s = now_s
        if done == FIRST - 1:
            # A low quartile: the first steps are rather slower than those to come.
            usual_s = sorted(self._first_s)[(FIRST - WARM_UP) // 4]
            self._every = steps_between(usual_s)
        self._newest = index
        self._next = index + self._random.randint(1, 2 * self._every - 1)

    def _begin_step(self) -> object:
        """Put a clock around all that a step is made of."""
        self._current = step = object()
        self._timer.step_in_sample(self._hooks, True)
        self._time("transfer", self._run, "moving batches")
        if self._run.compile_step is None:
            self._time("training_step", self._run, "forward")
            self._time("forward", self._run, "forward")
            self._time("around_backward", self._hooks, "backward")
            self._time("around_optimizer_step", self._hooks, "optimizer")
            self._time_optimizers()
        self._mark_step()
        self._watch.begin(self._parts["the rest"], sampled=True)  # now, as the clocks are no part of a step
        return step

    def _end_step(self, step: object) -> None:
        """Take all clocks out again, unless that was done."""
        if step is None or step is not self._current:
            return
        self._current = None
        self._watch.end(self._parts["the rest"])
        self._watch.weight = 0.0
        for restore in reversed(self._restore):
            restore()
        self._restore.clear()
        self._timer.step_in_sample(self._hooks, False)

    def _time(self, name: str, owner: FitRun | BoundHooks, share: str) -> None:
        """Time a function that the loop takes from an attribute."""
        function = getattr(owner, name)
        setattr(owner, name, self._watch.timed(function, self._parts[share], sampled=True))
        if owner is self._run:  # hooks are put back by the timer, which knows of plugins that came meanwhile
            self._restore.append(lambda: setattr(owner, name, function))

    def _time_optimizers(self) -> None:
        """Time the optimizers' own steps, which the plain step calls without a hook around."""
        update = self._parts["optimizer"]
        for optimizer in self._run.optimizers:
            if isinstance(optimizer, Optimizer):
                begin = optimizer.register_step_pre_hook(lambda *_: self._watch.begin(update, sampled=True))
                end = optimizer.register_step_post_hook(lambda *_: self._watch.end(update))
                self._restore += [begin.remove, end.remove]

    def _mark_step(self) -> None:
        """Charge what lies between the two hooks of a batch, and is charged to nothing else, to backward."""
        compiled = self._run.compile_step is not None
        rest = self._parts["compiled step" if compiled else "backward"]
        watch, hooks = self._watch, self._hooks
        before, behind = hooks.on_train_batch_start, hooks.on_train_batch_end

        def start(*values: Any) -> Any:
            answers = before(*values)
            watch.begin(rest, sampled=True)
            return answers

        def end(*values: Any) -> Any:
            watch.end(rest)
            return behind(*values)

        hooks.on_train_batch_start, hooks.on_train_batch_end = start, end


def steps_between(step_s: float) -> int:
    """Return of how many steps one is measured, in the mean, if a step takes so many seconds."""
    return max(1, math.ceil(COST_S / (WORTH * step_s)))
