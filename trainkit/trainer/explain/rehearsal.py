"""A call of a Trainer that comes as far as to be prepared, and of which nothing remains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainkit.callbacks.builtin.fit_report import FitReport
from trainkit.callbacks.builtin.last_checkpoint import LastCheckpoint
from trainkit.callbacks.builtin.run_record import RunRecord
from trainkit.callbacks.model_checkpoint.callback import ModelCheckpoint
from trainkit.loggers.logger import Logger
from trainkit.profilers.base import Profiler
from trainkit.seed import isolate_rng

if TYPE_CHECKING:
    from trainkit.trainer import Trainer
    from trainkit.trainer.call import Call

_WRITERS = (Logger, ModelCheckpoint, LastCheckpoint, FitReport, RunRecord, Profiler)
"""Plugins that make folders, or tell of a fit, when a call begins or ends."""


class _Silent:
    """Holds the place of a plugin that is not to be called."""

    def setup(self) -> None:
        pass


class Rehearsal:
    """The plugins that write, out of the way while a call is prepared, and in their places while one looks at it.

    Args:
        trainer: Whose they are.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._hooks = trainer.hooks
        self._writers: list[object] = [plugin for _, plugin in trainer.hooks.plugins if isinstance(plugin, _WRITERS)]
        self._silent: list[object] = [_Silent() for _ in self._writers]

    def hide(self) -> None:
        """Put stand-ins in their places."""
        self._swap(self._writers, self._silent)

    def show(self) -> None:
        """Put them back."""
        self._swap(self._silent, self._writers)

    def _swap(self, present: list[object], absent: list[object]) -> None:
        for old, new in zip(present, absent, strict=True):
            self._hooks.replace([old], [new])


@contextmanager
def rehearsed(trainer: Trainer) -> Iterator[Rehearsal]:
    """Let a call be prepared within the context, by plugins that write nothing. Random numbers are as before."""
    rehearsal = Rehearsal(trainer)
    rehearsal.hide()
    try:
        with isolate_rng():
            yield rehearsal
    finally:
        rehearsal.show()


@contextmanager
def shown(rehearsal: Rehearsal, call: Call) -> Iterator[Call]:
    """Let one look at a prepared call, with all plugins in their places."""
    rehearsal.show()
    try:
        yield call
    finally:
        rehearsal.hide()
