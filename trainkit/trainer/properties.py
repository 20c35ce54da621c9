"""What users and plugins read off a Trainer, in four parts.

Its parts, metrics and ranks are here; where the run is, the loaders and the arguments are in ``run_properties.py``,
``data_properties.py`` and ``argument_properties.py``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainkit.callbacks.accumulation_schedule import schedule_of
from trainkit.callbacks.builtin.last_checkpoint import LastCheckpoint
from trainkit.callbacks.early_stopping import EarlyStopping
from trainkit.callbacks.model_checkpoint.callback import ModelCheckpoint
from trainkit.callbacks.progress_bar import ProgressBar
from trainkit.hooks.manager import HookManager
from trainkit.loggers.logger import Logger
from trainkit.metrics.collector import MetricCollector
from trainkit.module import TrainModule
from trainkit.precision.base import Precision
from trainkit.profilers.base import Profiler
from trainkit.profilers.ledger import Ledger
from trainkit.profilers.simple import SimpleProfiler
from trainkit.strategies.base import Strategy
from trainkit.trainer.argument_properties import ArgumentProperties
from trainkit.trainer.data_properties import DataProperties
from trainkit.trainer.run_length import epoch_begin, estimated_updates


class TrainerProperties(DataProperties, ArgumentProperties):
    """The properties of a `Trainer`. Reading them changes nothing; how long to train may be set.

    Attributes:
        strategy: Where and how the module runs.
        precision: In which dtypes it computes.
        metrics: What was logged.
        hooks: The plugins: ``register(plugin)`` adds one, from the next hook on; ``order(hook)`` tells who is called.
        loggers: All loggers.
        profiler: What measures the run; one that measures nothing if none was asked for.
    """

    strategy: Strategy
    precision: Precision
    metrics: MetricCollector
    hooks: HookManager
    loggers: list[Logger]
    profiler: Profiler
    _callbacks: list[Any]

    # Metrics

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """The newest value of everything that was logged. Reading changes nothing."""
        return self.metrics.callback_metrics

    @property
    def logged_metrics(self) -> dict[str, Tensor]:
        """The newest value of everything that goes to loggers."""
        return self.metrics.logged_metrics

    @property
    def progress_bar_metrics(self) -> dict[str, Tensor]:
        """The newest value of everything that was logged with ``prog_bar=True``."""
        return self.metrics.progress_bar_metrics

    # Time

    @property
    def timing(self) -> Ledger | None:
        """Where the time of the newest call went, if ``profiler="simple"`` or ``plugins={"timing": True}`` asks."""
        found = (plugin for _, plugin in self.hooks.plugins if isinstance(plugin, SimpleProfiler))
        return next((each.ledger for each in found), None)

    # Parts

    @property
    def callbacks(self) -> list[Any]:
        """The user's callbacks, and the defaults that were added; during a call, those of the module too.

        Between two calls the list may be changed: who was added, or taken out, joins or leaves with the next call.
        """
        return self._callbacks if self._call is None or not self._call.is_running else self._call.callbacks

    @callbacks.setter
    def callbacks(self, callbacks: list[Any]) -> None:
        if self._call is not None and self._call.is_running:
            self._call.callbacks = callbacks
        else:
            self._callbacks = list(callbacks)

    @property
    def module(self) -> TrainModule | None:
        """The module of the running or last call."""
        return None if self._call is None else self._call.module

    lightning_module = module
    model = module

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers of the fit."""
        return self.fit_run.optimizers if self._is_fit else []

    @property
    def optimizer_wrappers(self) -> list[Any]:
        """What ``module.optimizers()`` gives: the same optimizers, with steps that the run sees."""
        return self.fit_run.wrapped_optimizers if self._is_fit else []

    @property
    def lr_scheduler_configs(self) -> list[Any]:
        """The schedulers of the fit, with interval, frequency and monitor."""
        return self.fit_run.schedulers if self._is_fit else []

    @property
    def estimated_stepping_batches(self) -> float:
        """How many updates the fit makes if nothing stops it earlier; may be asked in ``configure_optimizers``.

        Of a fit that is resumed, those before count too; of one that counts on from an earlier fit, and makes its
        optimizers anew, they do not. Loaders that are made anew are taken to stay as long as they are now, and with
        manual optimization each batch to make an update. Infinite where that has no bound: without ``max_steps``, if
        the loader does not know its length or only ``max_time`` is given.
        """
        accumulation = schedule_of(self.callbacks, self.arguments.optimization.accumulation)
        began = (0, 0) if self._call is None else self._call.began_at
        since = epoch_begin(self.progress, accumulation) if self.reload_dataloaders_every_n_epochs else began
        updates = estimated_updates(
            self.num_training_batches, self.arguments.stop, self.arguments.data, accumulation, since
        )
        return since[1] - began[1] + updates

    @property
    def logger(self) -> Logger | None:
        """The first logger."""
        return self.loggers[0] if self.loggers else None

    @property
    def log_dir(self) -> str:
        """The folder of this run: that of the first logger; without any, ``default_root_dir``."""
        folder: str = self.loggers[0].log_dir if self.loggers else self.default_root_dir
        return folder

    @property
    def default_root_dir(self) -> str:
        """The folder under which everything is written."""
        return self.arguments.output.root

    @property
    def checkpoint_callbacks(self) -> list[ModelCheckpoint]:
        """All `ModelCheckpoint` callbacks."""
        return [callback for callback in self.callbacks if isinstance(callback, ModelCheckpoint)]

    @property
    def checkpoint_callback(self) -> ModelCheckpoint | None:
        """The first `ModelCheckpoint`."""
        return next(iter(self.checkpoint_callbacks), None)

    @property
    def last_checkpoint(self) -> LastCheckpoint | None:
        """What keeps the newest state of the run that is being fitted; None if nobody does."""
        return next((plugin for _, plugin in self.hooks.plugins if isinstance(plugin, LastCheckpoint)), None)

    @property
    def checkpoint_roots(self) -> list[str]:
        """The folders below which ``ckpt_path="last"`` looks: ``default_root_dir``, and those of the callbacks."""
        folders = [callback.dirpath for callback in self.checkpoint_callbacks if callback.dirpath]
        return list(dict.fromkeys([self.default_root_dir, *folders]))

    @property
    def early_stopping_callbacks(self) -> list[EarlyStopping]:
        """All `EarlyStopping` callbacks."""
        return [callback for callback in self.callbacks if isinstance(callback, EarlyStopping)]

    @property
    def early_stopping_callback(self) -> EarlyStopping | None:
        """The first `EarlyStopping`."""
        return next(iter(self.early_stopping_callbacks), None)

    @property
    def progress_bar_callback(self) -> ProgressBar | None:
        """The progress bar."""
        return next((callback for callback in self.callbacks if isinstance(callback, ProgressBar)), None)

    # Ranks

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return self.strategy.world_size

    @property
    def global_rank(self) -> int:
        """This process among all."""
        return self.strategy.rank

    @property
    def local_rank(self) -> int:
        """This process among those of its machine."""
        return self.strategy.local_rank

    @property
    def node_rank(self) -> int:
        """This machine among all."""
        return self.strategy.rank // max(1, self.strategy.world_size // self.strategy.num_nodes)

    @property
    def num_nodes(self) -> int:
        """How many machines there are."""
        return self.strategy.num_nodes

    @property
    def num_devices(self) -> int:
        """How many devices of this machine are used."""
        return len(self.strategy.devices)

    @property
    def is_global_zero(self) -> bool:
        """Whether this is rank 0, which writes and prints."""
        return self.strategy.rank == 0
