"""``profiler="simple"``: the ledger of each call, which says where its time went and which plugin took how much."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from trainkit.callbacks.builtin.gradient_clipping import GradientClipping
from trainkit.callbacks.builtin.last_checkpoint import LastCheckpoint
from trainkit.callbacks.builtin.lr_schedulers import LRSchedulers
from trainkit.callbacks.builtin.run_record import RunRecord
from trainkit.callbacks.model_checkpoint.callback import ModelCheckpoint
from trainkit.errors import ConfigError
from trainkit.hooks.specs import hookimpl
from trainkit.hooks.stopwatch import Spent, Stopwatch
from trainkit.loggers.logger import Logger
from trainkit.loggers.metric_rows import MetricRows
from trainkit.profilers.base import Profiler
from trainkit.profilers.ledger import Ledger, make_ledger
from trainkit.profilers.sample import Sample
from trainkit.profilers.sampled_steps import SampledSteps
from trainkit.profilers.table import as_text
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

_SHARE_OF: dict[type, str] = {
    GradientClipping: "optimizer",
    LRSchedulers: "optimizer",
    Logger: "logging",
    MetricRows: "logging",
    ModelCheckpoint: "saving",
    LastCheckpoint: "saving",
    RunRecord: "saving",
}
"""The shares of plugins that are not just callbacks."""


class SimpleProfiler(Profiler):
    """Measures where the time of a call goes, and what each plugin takes of it. Costs one to three us a step.

    The first steps of a fit are measured, and then one in so many that this stays cheap. Of each other one the wait for
    its batch is known, and its time as a whole, which is divided as that of measured ones that took about as long.
    Where too few of these were measured, what a step took beyond a usual one is told as ``slow steps``. Hooks of
    epochs, validations and saves are always measured. What is told is wall time of the host: where a GPU works behind
    it, the host waits for it in whatever reads a value first.

    Attributes:
        ledger: What the newest call has come to; None before its end.
    """

    def __init__(self) -> None:
        self.ledger: Ledger | None = None
        self._watch = Stopwatch()  # that of the Trainer's plugins, during a call
        self._parts: defaultdict[str, Spent] = defaultdict(Spent)
        self._blocks: dict[str, Spent] = {}
        self._steps: SampledSteps | None = None

    def profile(self, name: str) -> AbstractContextManager[None]:
        return self._measured(name)

    @hookimpl(tryfirst=True)
    def setup(self, trainer: Trainer) -> None:
        timer = trainer.hooks.timing
        timer.enable(self)
        if timer.owner is not self:
            raise ConfigError("there are two SimpleProfilers, and each would measure the other. Leave out one of them.")
        timer.clear()
        self.ledger, self._watch, self._steps = None, timer.watch, None
        self._parts.clear()
        self._blocks.clear()
        self._watch.begin(self._parts["the rest"])
        self._watch.begin(self._parts["preparing"])

    @hookimpl(tryfirst=True)
    def on_fit_start(self, trainer: Trainer) -> None:
        trainer.hooks.timing.sample(True)
        self._steps = SampledSteps(trainer.fit_run, trainer.hooks.hooks, trainer.hooks.timing, self._parts)
        trainer.batch_meters.append(self._steps)

    @hookimpl(tryfirst=True)
    def on_train_start(self) -> None:
        self._watch.end(self._parts["preparing"])

    @hookimpl(tryfirst=True)
    def on_train_epoch_end(self) -> None:
        self._end_pass()

    @hookimpl(tryfirst=True)
    def on_validation_start(self) -> None:
        self._watch.begin(self._parts["evaluation"])

    # First too: in a checkpoint that is saved within this hook, it would be a plugin that is yet to be called.
    @hookimpl(tryfirst=True)
    def on_validation_end(self) -> None:
        self._watch.end(self._parts["evaluation"])

    @hookimpl(tryfirst=True)
    def on_test_start(self) -> None:
        self._watch.end(self._parts["preparing"])
        self._watch.begin(self._parts["evaluation"])

    on_predict_start = on_test_start
    on_test_end = on_predict_end = on_validation_end

    @hookimpl(tryfirst=True)
    def around_save_checkpoint(self) -> Generator[None, None, None]:
        self._watch.begin(self._parts["saving"])
        try:
            yield
        finally:
            self._watch.end(self._parts["saving"])

    @hookimpl(tryfirst=True)
    def on_exception(self) -> None:
        self._end_pass()

    @hookimpl(trylast=True)
    def teardown(self, trainer: Trainer, stage: Stage) -> None:
        self._end_pass()
        trainer.hooks.timing.sample(False)
        self._watch.end(self._parts["the rest"])
        self.ledger = make_ledger(
            str(stage),
            self._parts,
            trainer.hooks.timing.rows(),
            dict(_shares_of(trainer.hooks.plugins)),
            self._blocks,
            Sample() if self._steps is None else self._steps.sample,
        )
        self._steps = None

    def gather(self, trainer: Trainer) -> None:
        if self.ledger is not None and trainer.world_size > 1 and trainer.state.fn is Stage.FIT:
            self.ledger = self.ledger.with_ranks(trainer.strategy.all_gather_object(self.ledger))

    def summary(self) -> str:
        return "" if self.ledger is None else as_text(self.ledger)

    @contextmanager
    def _measured(self, name: str) -> Iterator[None]:
        spent = self._blocks.setdefault(name, Spent())
        self._watch.begin(spent)
        try:
            yield
        finally:
            self._watch.end(spent)

    def _end_pass(self) -> None:
        if self._steps is not None:
            self._steps.end_pass()


def measure_time(trainer: Trainer) -> None:
    """Let ``trainer`` measure where the time of its calls goes, unless it does already."""
    if not any(isinstance(plugin, SimpleProfiler) for _, plugin in trainer.hooks.plugins):
        profiler = SimpleProfiler()
        trainer.hooks.timing.enable(profiler)  # now, so that the first hook of all is measured too
        trainer.hooks.register(profiler)
        if type(trainer.profiler) is Profiler:  # which measures nothing
            trainer.profiler = profiler


def _shares_of(plugins: list[tuple[str, object]]) -> Iterator[tuple[str, str]]:
    """Yield names of plugins, and the shares to which they belong."""
    for name, plugin in plugins:
        for kind, share in _SHARE_OF.items():
            if isinstance(plugin, kind):
                yield name, share
