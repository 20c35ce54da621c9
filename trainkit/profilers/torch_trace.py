"""``profiler="torch"``: a few steps under torch's own profiler, as a trace and as a table of operators."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import profiler

from trainkit.checks import file_path, flags, takes_numpy, whole
from trainkit.hooks.specs import hookimpl
from trainkit.output import warn
from trainkit.printable import printable
from trainkit.profilers.base import Profiler

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class TorchProfiler(Profiler):
    """Records some training steps with ``torch.profiler``: a trace for each cycle, and a table of operators at the end.

    The trace is ``trace-rank0-0.json`` in the folder of the run, for https://ui.perfetto.dev. Recorded steps are slower
    than others; when the last cycle is done the profiler leaves the loop, and costs nothing from then on.

    Args:
        skip: Steps at the start of a fit that are left out.
        wait: Steps at the start of each cycle that are left out.
        warm_up: Steps that are recorded and thrown away: starting to record is slow.
        active: Steps that are recorded.
        repeat: How many cycles there are.
        record_shapes: Whether shapes of inputs are recorded.
        profile_memory: Whether memory is.
        with_stack: Whether lines of Python are, which is slow.
        row_limit: How many operators the table has.
        dirpath: Where traces are written; None is ``profile`` in the folder of the run.

    Attributes:
        traces: The files of the newest fit.

    Raises:
        ConfigError: If an argument is not usable.
    """

    @takes_numpy
    def __init__(
        self,
        *,
        skip: int = 10,
        wait: int = 0,
        warm_up: int = 2,
        active: int = 5,
        repeat: int = 1,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        row_limit: int = 10,
        dirpath: str | os.PathLike[str] | None = None,
    ) -> None:
        where = type(self).__name__
        file_path(where, dirpath=dirpath)
        for name, value in {"skip": skip, "wait": wait, "warm_up": warm_up}.items():
            whole(name, value, where=where)
        for name, value in {"active": active, "repeat": repeat, "row_limit": row_limit}.items():
            whole(name, value, at_least=1, where=where)
        flags(where, record_shapes=record_shapes, profile_memory=profile_memory, with_stack=with_stack)
        self._schedule = profiler.schedule(skip_first=skip, wait=wait, warmup=warm_up, active=active, repeat=repeat)
        self._num_steps = skip + repeat * (wait + warm_up + active)
        self._dirpath = dirpath
        self._options: dict[str, Any] = {
            "record_shapes": record_shapes,
            "profile_memory": profile_memory,
            "with_stack": with_stack,
        }
        self._row_limit = row_limit
        self._recorder: profiler.profile | None = None
        self._steps: _Steps | None = None
        self._table: list[str] = []
        self.traces: list[str] = []

    def profile(self, name: str) -> AbstractContextManager[None]:
        return profiler.record_function(name)

    def on_train_start(self, trainer: Trainer) -> None:
        self._table, self.traces = [], []
        activities = [profiler.ProfilerActivity.CPU]
        if trainer.strategy.device.type == "cuda":
            activities.append(profiler.ProfilerActivity.CUDA)
        self._recorder = profiler.profile(
            activities=activities,
            schedule=self._schedule,
            on_trace_ready=lambda recorder: self._keep(trainer, recorder),
            **self._options,
        )
        self._recorder.start()
        # A plugin of its own, which can leave when the last cycle is done.
        self._steps = _Steps(self._recorder, self._num_steps, lambda: self._stop(trainer))
        trainer.hooks.register(self._steps)

    def on_exception(self, trainer: Trainer) -> None:
        self._stop(trainer)

    @hookimpl(tryfirst=True)
    def on_train_end(self, trainer: Trainer) -> None:
        self._stop(trainer)
        if not self.traces and not self._table:
            warn(
                f"profiler='torch' has recorded nothing: the fit has ended before step {self._num_steps}. Give it "
                "fewer steps to skip, as by TorchProfiler(skip=0, warm_up=1, active=1)."
            )

    def teardown(self, trainer: Trainer) -> None:
        self._stop(trainer)

    def summary(self) -> str:
        return "\n".join(self._table)

    def _stop(self, trainer: Trainer) -> None:
        recorder, self._recorder = self._recorder, None
        if self._steps is not None and trainer.hooks.is_registered(self._steps):
            trainer.hooks.unregister(self._steps)
        self._steps = None
        if recorder is not None:
            recorder.stop()

    def _keep(self, trainer: Trainer, recorder: profiler.profile) -> None:
        """Write the trace of a cycle, and note what took most in it."""
        if not trainer.arguments.data.fast_dev_run:
            folder = os.fspath(self._dirpath or os.path.join(trainer.log_dir, "profile"))
            os.makedirs(folder, exist_ok=True)
            path = os.path.join(folder, f"trace-rank{trainer.global_rank}-{len(self.traces)}.json")
            recorder.export_chrome_trace(path)
            self.traces.append(path)
        self._table = list(_table(recorder.key_averages(), self._row_limit, self.traces))


class _Steps:
    """Tells the recorder of each step, until it has seen enough of them."""

    name = "TorchProfiler steps"
    stage = "setup"  # first: in a checkpoint that is saved in this hook, it would be one that is yet to be called

    def __init__(self, recorder: profiler.profile, num_steps: int, when_done: Any) -> None:
        self._recorder = recorder
        self._left = num_steps
        self._when_done = when_done

    def on_train_batch_end(self) -> None:
        self._recorder.step()
        self._left -= 1
        if not self._left:
            self._when_done()


def _table(events: Any, row_limit: int, traces: list[str]) -> Iterator[str]:
    on_cuda = torch.cuda.is_available() and any(each.self_device_time_total for each in events)
    kind = "self_device_time_total" if on_cuda else "self_cpu_time_total"
    rows = sorted(events, key=lambda each: -getattr(each, kind))
    whole = sum(getattr(each, kind) for each in events) or 1.0
    yield f"trainkit: the most expensive operators, by their own time on the {'GPU' if on_cuda else 'CPU'}"
    yield ""
    yield f"  {'operator':<44} {'calls':>8} {'ms':>10} {'percent':>8}"
    for each in rows[:row_limit]:
        name, took = printable(each.key), getattr(each, kind)
        name = name if len(name) <= 44 else f"{name[:43]}…"
        yield f"  {name:<44} {each.count:>8,} {took / 1e3:>10.3f} {100 * took / whole:>8.1f}"
    if traces:
        yield ""
        yield "  traces, for https://ui.perfetto.dev:"
        yield from (f"  {printable(path)}" for path in traces)
