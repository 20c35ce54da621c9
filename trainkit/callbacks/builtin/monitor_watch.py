"""Telling with the first update, rather than at the end of an epoch, that nothing logs a metric that is monitored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainkit.callbacks.monitor import missing_metric, near_misses
from trainkit.hooks.callback import Callback
from trainkit.module import TrainModule
from trainkit.output import warn
from trainkit.reflection import overrides

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

COUNTERS = ("epoch", "step")
"""What `ModelCheckpoint` may rank by, and nobody logs."""


class MonitorWatch(Callback):
    """Warns of monitored metrics of which the sanity check and the first update have logged only what is much alike.

    Then it leaves. It is silent where they may still come: nothing like them is logged, validation has not been tried,
    somebody has asked whether it is, or somebody logs at the end of an epoch.

    Args:
        monitors: The names of metrics, with who monitors them.
    """

    def __init__(self, monitors: Mapping[str, str]) -> None:
        self.monitors = {name: who for name, who in monitors.items() if name not in COUNTERS}
        self._tried: set[str] | None = None
        self._began_at_step = 0

    def on_sanity_check_end(self, trainer: Trainer) -> None:
        # What is logged in it is gone afterwards.
        self._tried = set(trainer.callback_metrics)

    def on_train_start(self, trainer: Trainer) -> None:
        self._began_at_step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, module: TrainModule) -> None:
        if trainer.global_step == self._began_at_step:
            return  # what hooks of an update log is yet to come
        trainer.hooks.unregister(self)
        if not trainer.is_global_zero or (self._tried is None and any(trainer.num_val_batches)):
            return
        if trainer.state.sanity_check_matters or _logs_at_epoch_end(trainer, module):
            return
        names = {*trainer.callback_metrics, *trainer.metrics.awaited, *(self._tried or ())}
        for name, who in self.monitors.items():
            if name not in names and near_misses(name, {*names, *trainer.metrics.logged_metrics}):
                tried = "the first update, there being no validation data"
                if self._tried is not None:
                    tried = "the sanity check and the first update"
                warn(
                    f"{missing_metric(name, names, who, trainer.metrics)}\n"
                    f"    looked at    {tried}; it has to be there when it is used",
                )


def monitors_of(owners: Any) -> dict[str, str]:
    """Return the metrics that callbacks and configurations of schedulers monitor, with who does."""
    return {
        owner.monitor: type(getattr(owner, "scheduler", owner)).__name__
        for owner in owners
        if isinstance(getattr(owner, "monitor", None), str)
    }


def _logs_at_epoch_end(trainer: Trainer, module: TrainModule) -> bool:
    """Whether the module or a plugin that is not ours may log at the end of a training epoch."""
    joined = trainer.hooks.order("on_train_epoch_end")
    strangers = (type(each) for name, each in trainer.hooks.plugins if name in joined and each is not module)
    return overrides(module, "on_train_epoch_end", TrainModule) or any(
        not each.__module__.startswith("trainkit.") for each in strangers
    )
