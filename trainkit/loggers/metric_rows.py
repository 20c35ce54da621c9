"""Rows of metrics: when they are due, and who gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class MetricRows(Callback):
    """Sends rows of metrics to the loggers: every ``log_every_n_steps`` updates, and after each evaluation and epoch.

    The x-axis of every row is ``global_step``. With ``log_every_n_steps=0`` there are no rows between. Reading a row is
    the only time that logging waits for the device.
    """

    # After every plugin that logs in the hooks below, ahead of the plugins that decide by what was logged.
    stage: ClassVar[PluginStage] = "decide"

    def __init__(self) -> None:
        self._seen_step = 0
        self._every_n_steps = 0

    def on_train_start(self, trainer: Trainer) -> None:
        self._seen_step = trainer.global_step
        self._every_n_steps = trainer.log_every_n_steps

    def on_train_batch_end(self, trainer: Trainer) -> None:
        step = trainer.progress.global_step
        if step != self._seen_step:
            self._seen_step = step
            if self._every_n_steps and step % self._every_n_steps == 0:
                self._send(trainer, trainer.metrics.step_row())

    def on_train_epoch_end(self, trainer: Trainer) -> None:
        self._seen_step = trainer.global_step
        self._send_epoch(trainer)

    def on_validation_end(self, trainer: Trainer) -> None:
        if not trainer.sanity_checking:
            self._send_epoch(trainer)

    def on_test_end(self, trainer: Trainer) -> None:
        self._send_epoch(trainer)

    def _send_epoch(self, trainer: Trainer) -> None:
        trainer.metrics.reduce_epoch_hook_values()
        self._send(trainer, trainer.metrics.epoch_row())

    def _send(self, trainer: Trainer, row: dict[str, float]) -> None:
        if row:
            trainer.log_metrics({"epoch": trainer.current_epoch, **row}, trainer.global_step)
