"""`SampledSteps`: measures what a training step is made of, in some steps; the others run as without it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain
from time import perf_counter
from typing import Any

from torch.optim import Optimizer

from trainkit.hooks.bound import BoundHooks
from trainkit.hooks.stopwatch import Spent
from trainkit.hooks.timing import HookTimer
from trainkit.loops.run import FitRun
from trainkit.profilers.sample import Sample
from trainkit.profilers.slow_ones import COST_S, WORTH, SlowOnes
from trainkit.types import Batch

FIRST = 20
"""So many steps of a fit are all measured. They tell how long a step takes, and count as they are: the first ones
start workers, compile and choose kernels, and stand for no others."""

WARM_UP = 3
"""So many of them do not even count for how long a step takes."""

_NOTHING = object()


class SampledSteps:
    """Measures the first steps of a fit, and then one in so many that it costs 0.3 percent.

    Which ones is drawn, with a generator of its own, so that nothing that recurs is always met, or never. Of all others
    two clocks tell how long the wait for the batch was, and the step as a whole. Steps that were far longer than usual
    are kept apart, and where they come at equal distances, those that follow are measured.

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
        self._every = 1  # how many steps lie between two that are drawn, in the mean
        self._began_at = self._drawn = self._next_drawn = run.progress.total_batches
        self._next: float = self._began_at  # the next step that is measured: drawn, or foreseen to be slow
        self._slow = SlowOnes()
        self._restore: list[Callable[[], None]] = []
        self._current: int | None = None  # the measured step that is under way
        self._stretch: Generator[Batch] | None = None  # the newest of steps that are left alone
        self._since: tuple[float, float] | None = None  # when the last step of a pass began, and what was charged then
        self._is_over = False  # whether the pass is

    def measure(self, batches: Iterable[Batch], loader: Any) -> Iterable[Batch]:
        """Return an iterable of ``batches`` of one pass that measures some of the steps on them."""
        return chain.from_iterable(self._stretches(iter(batches)))

    def end_pass(self) -> None:
        """End what a pass has begun. The loop does not always ask for the end of its batches."""
        self._end_step()
        if self._stretch is not None:
            self._stretch.close()
        self._watch.end_within(self.sample.unmeasured)
        if self._since is not None:
            (began_s, inner_s), self._since = self._since, None
            took_s = perf_counter() - began_s - self._watch.inner_s + inner_s
            self._look_at(self._run.progress.total_batches - 1, took_s)
        self._watch.end(self.sample.unmeasured)
        self.sample.steps = self._run.progress.total_batches - self._began_at

    def _stretches(self, batches: Iterator[Batch]) -> Iterator[Iterable[Batch]]:
        """Yield stretches of batches: those of steps that are left alone, then one that is measured, and so on."""
        self._watch.begin(self.sample.unmeasured)
        self._is_over = False
        # A loader that has ended is not asked again.
        while not self._is_over:
            self._stretch = self._left_alone(batches)
            yield self._stretch
            if not self._is_over:
                yield self._measured(batches)

    def _left_alone(self, batches: Iterator[Batch]) -> Generator[Batch]:
        """Yield batches until a step is to be measured, with two clocks for each: when it is asked for, and comes."""
        watch, index = self._watch, self._run.progress.total_batches
        waited_s = came_s = inner_s = 0.0
        try:
            asked_s, asked_inner_s = perf_counter(), watch.inner_s
            while index < self._next:
                batch = next(batches, _NOTHING)
                came_s, inner_s = perf_counter(), watch.inner_s
                waited_s += came_s - asked_s - inner_s + asked_inner_s
                if batch is _NOTHING:
                    self._is_over = True
                    break
                yield batch
                asked_s, asked_inner_s = perf_counter(), watch.inner_s
                if asked_s - came_s > self._slow.limit_s:
                    self._look_at(index, asked_s - came_s - asked_inner_s + inner_s)
                came_s = 0.0
                index += 1
        finally:
            self._since = (came_s, inner_s) if came_s else None
            self._parts["waiting for data"].seconds += waited_s
            self.sample.unmeasured.seconds -= waited_s

    def _look_at(self, index: int, took_s: float) -> None:
        """Keep a step that was not measured apart from the others if it was slow."""
        slow = self._slow.how_slow(took_s)
        if slow:
            alike = self.sample.slow[slow]
            alike.steps += 1
            alike.seconds += took_s
            self.sample.unmeasured.seconds -= took_s
            self._slow.add(index, took_s)
            self._next = min(self._next_drawn, self._slow.foreseen(index))

    def _measured(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield one batch, and measure the wait for it and all that is done until the next one is asked for."""
        self._begin_step()
        self._watch.begin(self._parts["waiting for data"])
        batch = next(batches, _NOTHING)
        self._watch.end(self._parts["waiting for data"])
        if batch is not _NOTHING:
            yield batch
            self._end_step()
            return
        self._is_over = True
        self._end_step()
        self._since = perf_counter(), self._watch.inner_s

    def _count(self, index: int) -> None:
        """Let a step that was measured stand for others, and choose the next one."""
        took_s = sum(seconds for _, _, seconds in self._watch.sampled)
        slow = self._slow.how_slow(took_s)
        weight = self._weight_of(index, slow)
        self.sample.measured += 1
        if slow and weight:
            self.sample.slow[slow].measured += 1
        else:
            self.sample.weight += weight
        if weight:
            for spent, calls, seconds in self._watch.sampled:
                spent.stand_for(weight, calls, seconds, slow)
        if slow:
            self._slow.add(index, took_s)
        self._plan(index, took_s)

    def _weight_of(self, index: int, slow: int) -> float:
        """Return for how many steps this one stands."""
        done = index - self._began_at
        if done < FIRST:
            # Where nothing else is measured, the steps that follow are like the later ones of these.
            return 1e-6 if done >= WARM_UP and not slow else 0.0
        if index != self._next_drawn:  # one that was foreseen to be slow, and is like no others
            return 0.0
        return 1.0 if slow else float(index - self._drawn - 1)

    def _plan(self, index: int, took_s: float) -> None:
        """Choose the next step that is measured."""
        done = index - self._began_at
        if WARM_UP <= done < FIRST or index == self._next_drawn:  # what is foreseen to be slow says nothing of others
            self._slow.learn(took_s)
            self.sample.usual_s = self._slow.usual_s
        if done == FIRST - 1:
            # A low quartile: the first steps are rather slower than those to come.
            self._every = steps_between(sorted(self._slow.newest_s)[(FIRST - WARM_UP) // 4])
        if index >= self._next_drawn:
            self._drawn = index
            self._next_drawn = index + self._random.randint(1, 2 * self._every - 1)
        self._next = min(self._next_drawn, self._slow.foreseen(index))

    def _begin_step(self) -> None:
        """Put a clock around all that a step is made of."""
        self._current = self._run.progress.total_batches
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

    def _end_step(self) -> None:
        """Take all clocks out again, unless that was done, and count the step, unless it has failed."""
        if self._current is None:
            return
        index, self._current = self._current, None
        self._watch.end(self._parts["the rest"])
        if self._run.progress.total_batches > index:
            self._count(index)
        self._watch.sampled.clear()
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
