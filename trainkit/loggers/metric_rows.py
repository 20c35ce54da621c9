"""The plugin that decides when a row of metrics is due, reads it, and sends it to the loggers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NotRequired, TypedDict

from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage
from trainkit.hooks.specs import MODULE_METHODS
from trainkit.loops.rows import Rows
from trainkit.module import TrainModule
from trainkit.output import say, warn
from trainkit.reflection import overrides
from trainkit.storage.schema import Count, takes
from trainkit.types import Phase

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class _Rows(TypedDict):
    """What `Rows` has seen."""

    step: Count
    is_due: bool
    seen: dict[str, float]


class _State(TypedDict):
    """The update whose row was sent last, and which one has the next."""

    seen_step: Count
    rows: NotRequired[_Rows]


class MetricRows(Callback):
    """Sends rows of metrics to the loggers: as ``log_every_n_steps`` says, and after each evaluation and epoch.

    An evaluation also has a row for each batch that logs a value ``on_step``, since none of them is the newest of many.

    The x-axis of every row is ``global_step``, or a metric that is named ``step``. With ``log_every_n_steps=0`` there
    are rows of evaluations and epochs only. The row of an accumulated update has the values of all its batches, reduced
    as they were logged to be. Logging waits for the device when a row is read, and at no other time.
    """

    # After the plugins that log in the hooks below, and ahead of those that decide by what was logged: the Trainer
    # registers it first within this plugin stage.
    stage: ClassVar[PluginStage] = "decide"

    def __init__(self, *, warns: bool = True) -> None:
        self._is_to_warn = self._warns = warns  # of a loss that is not finite, once in a run
        self._seen_step: int | None = None
        self._every_n_steps = 0
        self._unforeseen: Rows | None = None  # where it is known behind an update only which one has a row
        self._saved_rows: dict[str, Any] = {}

    def setup(self, trainer: Trainer) -> None:
        trainer.metrics.may_log_outside_batches = partial(_may_log_outside_batches, trainer)

    def on_train_start(self, trainer: Trainer) -> None:
        self._warns = self._is_to_warn
        # A checkpoint may have been saved between an update and this plugin's turn to see it.
        if not trainer.fit_run.is_resumed or self._seen_step is None:
            self._seen_step = trainer.global_step
        # Read after every batch: an attribute is cheaper than the Trainer's property.
        rows = trainer.fit_run.rows
        self._every_n_steps = int(rows.every.size) if rows.every is not None and rows.are_foreseen else 0
        self._unforeseen = None if rows.are_foreseen else rows
        rows.load_state_dict(self._saved_rows)
        self._saved_rows = {}
        self._accumulation = trainer.fit_run.accumulation

    def on_train_batch_end(self, trainer: Trainer) -> None:
        # At the end of a group, also of one whose update was skipped. Without accumulation there is nothing to reduce.
        if self._accumulation.size > 1 and not self._accumulation.batches:
            trainer.metrics.end_group()
        step = trainer.progress.global_step
        # Without an update (accumulation, a skipped batch) the step is the same, and its row has been sent.
        if step != self._seen_step:
            self._seen_step = step
            if (self._every_n_steps and step % self._every_n_steps == 0) or (
                self._unforeseen and self._unforeseen.newest_has_one()
            ):
                self._send(trainer, trainer.metrics.step_row())

    def on_train_epoch_end(self, trainer: Trainer) -> None:
        # An update of a group that the end of the epoch cut short has come after the last batch's hook.
        if trainer.global_step != self._seen_step:
            self._seen_step = trainer.global_step
            if trainer.fit_run.rows.newest_has_one():
                self._send(trainer, trainer.metrics.step_row())
        self._send_epoch(trainer)

    def on_train_end(self, trainer: Trainer) -> None:
        # What is in no row has been read by nobody here: a fit may be shorter than one row, and a bar has none.
        if self._warns:
            newest = trainer.metrics.progress_bar_metrics | trainer.metrics.logged_metrics
            numbers = {name: value.item() for name, value in newest.items()}
            self._warn_of_nonfinite_loss(trainer, numbers, "when training ends")
        every = trainer.fit_run.rows.every
        has_rows = every is None or every.count(trainer.progress) >= every.size
        if has_rows or trainer.fast_dev_run or not trainer.loggers or not trainer.metrics.awaits_row:
            return
        if trainer.is_global_zero:
            say(
                "trainkit: no row of what training logged per step was written, since there were "
                f"{trainer.global_step} updates and log_every_n_steps={trainer.log_every_n_steps}: a smaller one "
                "writes some, and self.log(..., on_epoch=True) a row of each epoch",
                err=True,
            )

    def on_validation_batch_end(self, trainer: Trainer) -> None:
        # First what is asked of every batch: few log a value of it.
        if trainer.metrics.has_step_row() and not trainer.sanity_checking:
            self._send(trainer, trainer.metrics.step_row())

    def on_test_batch_end(self, trainer: Trainer) -> None:
        if trainer.metrics.has_step_row():
            self._send(trainer, trainer.metrics.step_row())

    def on_validation_end(self, trainer: Trainer) -> None:
        if not trainer.sanity_checking:
            self._send_epoch(trainer)

    def on_test_end(self, trainer: Trainer) -> None:
        self._send_epoch(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the update whose row was sent last, and which one has the next."""
        rows = {} if self._unforeseen is None else {"rows": self._unforeseen.state_dict()}
        return {} if self._seen_step is None else {"seen_step": self._seen_step, **rows}

    @takes(_State)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._seen_step, self._saved_rows = state["seen_step"], state.get("rows", {})

    def _send_epoch(self, trainer: Trainer) -> None:
        # A collective: all ranks come here, also those that have no loggers.
        trainer.metrics.reduce_epoch_hook_values()
        # What a batch has logged behind this plugin, as plugins of a later stage do, is in no row yet.
        steps = {} if trainer.metrics.in_training else trainer.metrics.step_row()
        self._send(trainer, {**steps, **trainer.metrics.epoch_row()})

    def _warn_of_nonfinite_loss(self, trainer: Trainer, row: dict[str, float], when: str) -> None:
        found = _nonfinite_losses(row)
        if not found:
            return
        # A loss of training is the cause, and may be in no row yet: first what was logged first.
        found = _nonfinite_losses({name: float(value) for name, value in trainer.logged_metrics.items()}) | found
        self._warns = False
        if trainer.is_global_zero:
            warn(
                f"{', '.join(f'{name} is {value}' for name, value in found.items())} {when}, "
                f"at step {trainer.global_step} or before. Weights become NaN where it is what they are trained by: "
                "Trainer(on_nonfinite_loss='stop') ends a fit before that, and 'ignore' leaves out this warning."
            )

    def _send(self, trainer: Trainer, row: dict[str, float]) -> None:
        if row:
            if self._warns:
                self._warn_of_nonfinite_loss(trainer, row, f"in epoch {trainer.current_epoch}")
            trainer.log_metrics({"epoch": trainer.current_epoch, **row})


_STAGES = {Phase.TRAIN: "train", Phase.TEST: "test"}
"""Whose hooks run in a phase; in all others those of validation."""

_METHODS = ("lr_scheduler_step", *(name for name in MODULE_METHODS if "_model_" in name))
"""Methods of a module that are no hooks, and are called outside of batches."""


def _may_log_outside_batches(trainer: Trainer, phase: Phase) -> bool:
    """Whether a plugin that is not trainkit's, such as the module, may log in a hook that belongs to no batch."""
    stage = _STAGES.get(phase, "validation")
    hooks = [f"on_{stage}_{place}" for place in ("start", "epoch_start", "epoch_end", "end")]
    joined = {name for hook in hooks for name in trainer.hooks.order(hook)}
    own = ("trainkit.callbacks.", "trainkit.loggers.")  # of which none logs
    theirs = [each for name, each in trainer.hooks.plugins if name in joined]
    return any(not type(each).__module__.startswith(own) for each in theirs) or any(
        overrides(trainer.module, name, TrainModule) for name in _METHODS
    )


def _nonfinite_losses(values: Mapping[str, float]) -> dict[str, float]:
    # By the name: another metric may be undefined, and NaN on purpose.
    return {name: value for name, value in values.items() if "loss" in name.lower() and not math.isfinite(value)}
