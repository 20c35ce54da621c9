"""The built-in plugin that steps learning-rate schedulers."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from trainkit.callbacks.base import Callback
from trainkit.callbacks.monitor import missing_metric, missing_metric_error
from trainkit.hooks.manager import PluginStage
from trainkit.hooks.specs import hookimpl
from trainkit.optim import SchedulerConfig

if TYPE_CHECKING:
    from trainkit.module import TrainModule
    from trainkit.trainer import Trainer


class LRSchedulers(Callback):
    """Steps every scheduler that ``configure_optimizers`` returned, as its ``interval`` and ``frequency`` say.

    ========  =======================================================================================================
    "step"    after every ``frequency``-th update of the whole run, ahead of all other ``on_train_batch_end``
    "epoch"   after the last batch of every ``frequency``-th epoch, before its validation; one that needs a metric
              (``ReduceLROnPlateau``) after it. An epoch that ends early does not count.
    ========  =======================================================================================================

    With manual optimization the schedulers are the user's.
    """

    # Metrics of the epoch are final, and early stopping and checkpoints have not looked yet.
    stage: ClassVar[PluginStage] = "decide"

    def __init__(self) -> None:
        self._after_updates: list[SchedulerConfig] = []
        self._after_batches: list[SchedulerConfig] = []
        self._after_validation: list[SchedulerConfig] = []
        self._seen_step = 0
        self._warned: set[str] = set()

    def on_train_start(self, trainer: Trainer, module: TrainModule) -> None:
        configs = trainer.lr_scheduler_configs if module.automatic_optimization else []
        by_epoch = [config for config in configs if config.interval == "epoch"]
        self._after_updates = [config for config in configs if config.interval == "step"]
        self._after_batches = [config for config in by_epoch if not config.reduce_on_plateau]
        self._after_validation = [config for config in by_epoch if config.reduce_on_plateau]
        self._seen_step = trainer.global_step

    @hookimpl(tryfirst=True)
    def on_train_batch_end(self, trainer: Trainer, module: TrainModule) -> None:
        if self._after_updates:
            self._step_after_update(trainer, module)
        if self._after_batches and trainer.is_last_batch:
            self._step(self._after_batches, trainer.current_epoch + 1, trainer, module)

    def on_train_epoch_end(self, trainer: Trainer, module: TrainModule) -> None:
        # An accumulation group that the epoch's early end cut short was updated after its last batch.
        self._step_after_update(trainer, module)
        if trainer.is_last_batch:
            self._step(self._after_validation, trainer.current_epoch + 1, trainer, module)

    def _step_after_update(self, trainer: Trainer, module: TrainModule) -> None:
        if trainer.global_step != self._seen_step:
            self._seen_step = trainer.global_step
            self._step(self._after_updates, self._seen_step, trainer, module)

    def _step(self, configs: list[SchedulerConfig], count: int, trainer: Trainer, module: TrainModule) -> None:
        for config in configs:
            if count % config.frequency:
                continue
            metric = self._metric(config, trainer) if config.reduce_on_plateau else None
            if metric is not None or not config.reduce_on_plateau:
                module.lr_scheduler_step(config.scheduler, metric)

    def _metric(self, config: SchedulerConfig, trainer: Trainer) -> Tensor | None:
        """Return the newest value of what ``config`` monitors.

        Raises:
            MetricError: If it has not been logged, unless ``strict`` is False: then it is None, with one warning.
        """
        assert config.monitor is not None, "configure_optimizers was checked for it"
        metrics = trainer.callback_metrics
        where = f"{type(config.scheduler).__name__} (interval {config.interval!r})"
        if config.monitor not in metrics and config.strict:
            raise missing_metric_error(config.monitor, metrics, where)
        if config.monitor not in metrics and config.monitor not in self._warned:
            self._warned.add(config.monitor)
            warnings.warn(f"{missing_metric(config.monitor, metrics, where)}\nIt is not stepped.", stacklevel=2)
        return metrics.get(config.monitor)
