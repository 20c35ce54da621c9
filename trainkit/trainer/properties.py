"""What users and plugins read off a Trainer: where the run is, its metrics, its parts and sizes."""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import Any

import torch
from torch import Tensor

from trainkit.callbacks.builtin.last_checkpoint import LastCheckpoint
from trainkit.callbacks.early_stopping import EarlyStopping
from trainkit.callbacks.model_checkpoint.callback import ModelCheckpoint
from trainkit.callbacks.progress_bar import ProgressBar
from trainkit.checks import Duration
from trainkit.data.module import DataModule
from trainkit.errors import NotAttachedError
from trainkit.hooks.manager import HookManager
from trainkit.loggers.logger import Logger
from trainkit.loops.run import FitRun, Run
from trainkit.metrics.collector import MetricCollector
from trainkit.module import TrainModule
from trainkit.precision.base import Precision
from trainkit.progress import Progress
from trainkit.strategies.base import Strategy
from trainkit.trainer.arguments import StopArguments, TrainerArguments
from trainkit.trainer.call import Call, TrainerState
from trainkit.trainer.data import DataConnection
from trainkit.trainer.run_length import estimated_updates, max_epochs, max_steps
from trainkit.types import Phase, Stage


class TrainerProperties:
    """The properties of a `Trainer`. Reading them changes nothing; how long to train may be set.

    What a call made is read off the running call, or the last one (``call.py``).

    Attributes:
        arguments: What the Trainer was made with.
        strategy: Where and how the module runs.
        precision: In which dtypes it computes.
        metrics: What was logged.
        hooks: The plugins: ``register(plugin)`` adds one, from the next hook on; ``order(hook)`` tells who is called.
        loggers: All loggers.
        progress: The counters of the fits; while a checkpoint is evaluated, those of the checkpoint.
    """

    arguments: TrainerArguments
    strategy: Strategy
    precision: Precision
    metrics: MetricCollector
    hooks: HookManager
    loggers: list[Logger]
    progress: Progress
    _callbacks: list[Any]
    _call: Call | None

    # Where the run is

    @property
    def state(self) -> TrainerState:
        """What the Trainer is doing."""
        return TrainerState() if self._call is None else self._call.state

    @property
    def run(self) -> Run:
        """The parts of the running or last call.

        Raises:
            NotAttachedError: Before the first one.
        """
        if self._call is None:
            raise NotAttachedError("nothing has run yet: call fit, validate, test or predict first.")
        return self._call.run

    @property
    def fit_run(self) -> FitRun:
        """The parts of the running or last call, which is a fit: with optimizers, accumulation and limits.

        Raises:
            NotAttachedError: Before the first call, or if it is no fit.
        """
        if self._call is None:
            raise NotAttachedError("nothing has run yet: call fit first.")
        return self._call.fit_run

    @property
    def current_epoch(self) -> int:
        """The index of the running epoch; after a fit, how many epochs are complete."""
        return self.progress.epoch

    @property
    def global_step(self) -> int:
        """Optimizer updates so far."""
        return self.progress.global_step

    @property
    def is_last_batch(self) -> bool:
        """Whether the newest training batch, which may be under way, is the last of its epoch."""
        return self._is_fit and self.fit_run.is_last_batch

    @property
    def ckpt_path(self) -> str | None:
        """The checkpoint that the running or last call was started from."""
        return None if self._call is None else self._call.ckpt_path

    @property
    def continues_last(self) -> bool:
        """Whether that was found by ``ckpt_path="last"``, so that the call goes on in the run's folder."""
        return self._call is not None and self._call.continues_last

    @property
    def phase(self) -> Phase | None:
        """What is running right now; until a loop runs, what has been asked for."""
        return None if self._call is None else self._call.phase

    @property
    def training(self) -> bool:
        """Whether training batches are being run, and no validation inside."""
        return self.phase is Phase.TRAIN

    @property
    def validating(self) -> bool:
        """Whether a validation is running, in ``fit`` or on its own."""
        return self.phase is Phase.VALIDATE

    @property
    def testing(self) -> bool:
        """Whether a test is running."""
        return self.phase is Phase.TEST

    @property
    def predicting(self) -> bool:
        """Whether a prediction is running."""
        return self.phase is Phase.PREDICT

    @property
    def sanity_checking(self) -> bool:
        """Whether the few validation batches ahead of training are running."""
        return self.state.is_sanity_check(asks=sys._getframe(1))

    @property
    def evaluating(self) -> bool:
        """Whether a validation, a test or the sanity check is running."""
        return self.validating or self.testing or self.sanity_checking

    @property
    def interrupted(self) -> bool:
        """Whether the last call ended with an exception."""
        return self.state.status == "interrupted"

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
    def datamodule(self) -> DataModule | None:
        """The data module of the running or last call."""
        return self._data.datamodule if self._data is not None else None

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

    # Sizes

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

    @property
    def num_training_batches(self) -> float:
        """Training batches per epoch; infinite if the loader does not know, or outside a fit."""
        batches = [] if self._data is None else self._data.num_batches("train")
        return batches[0] if batches else math.inf

    @property
    def num_val_batches(self) -> list[float]:
        """Batches of each validation loader."""
        return [] if self._data is None else self._data.num_batches("val")

    @property
    def num_test_batches(self) -> list[float]:
        """Batches of each test loader."""
        return [] if self._data is None else self._data.num_batches("test")

    @property
    def num_predict_batches(self) -> list[float]:
        """Batches of each prediction loader."""
        return [] if self._data is None else self._data.num_batches("predict")

    def predict_batch_indices(self, dataloader_idx: int = 0) -> list[Any] | None:
        """Return the samples' indices in the dataset of the batch that is being predicted.

        Args:
            dataloader_idx: The index of its loader.

        Returns:
            What the sampler gave; None for a loader that has none, and outside of a prediction.
        """
        loaders = self._data.evaluation_loaders("predict") if self.state.fn is Stage.PREDICT and self._data else []
        return loaders[dataloader_idx].known_indices() if loaders else None

    @property
    def num_sanity_val_batches(self) -> list[float]:
        """Batches of each validation loader that are tried ahead of training."""
        return [min(self.num_sanity_val_steps, batches) for batches in self.num_val_batches]

    @property
    def num_sanity_val_steps(self) -> float:
        """How many validation batches are tried ahead of training, at most."""
        return self.arguments.data.sanity_batches

    @property
    def estimated_stepping_batches(self) -> float:
        """How many updates the fit makes if nothing stops it earlier; may be asked in ``configure_optimizers``."""
        return estimated_updates(
            self.num_training_batches, self.arguments.stop, self.arguments.data, self.arguments.optimization
        )

    @property
    def train_dataloader(self) -> Any:
        """The training loader of the fit, as the run uses it."""
        return None if self._data is None else self._data.loader("train")

    @property
    def val_dataloaders(self) -> Any:
        """The validation loaders."""
        return None if self._data is None else self._data.loader("val")

    @property
    def test_dataloaders(self) -> Any:
        """The test loaders."""
        return None if self._data is None else self._data.loader("test")

    @property
    def predict_dataloaders(self) -> Any:
        """The prediction loaders."""
        return None if self._data is None else self._data.loader("predict")

    # Settings

    @property
    def max_epochs(self) -> int:
        """Epochs to train; -1 for no limit. May be set, to train on or to end earlier."""
        epochs = max_epochs(self.arguments.stop, self.arguments.data)
        return -1 if epochs == math.inf else int(epochs)

    @max_epochs.setter
    def max_epochs(self, epochs: int) -> None:
        self._stop_at(dataclasses.replace(self.arguments.stop, max_epochs=epochs))

    @property
    def min_epochs(self) -> int | None:
        """Epochs before which ``should_stop`` is not honoured."""
        return self.arguments.stop.min_epochs

    @property
    def max_steps(self) -> int:
        """Updates to make; -1 for no limit. May be set, to train on or to end earlier."""
        steps = max_steps(self.arguments.stop, self.arguments.data)
        return -1 if steps == math.inf else int(steps)

    @max_steps.setter
    def max_steps(self, steps: int) -> None:
        self._stop_at(dataclasses.replace(self.arguments.stop, max_steps=steps))

    @property
    def min_steps(self) -> int | None:
        """Updates before which ``should_stop`` is not honoured."""
        return self.arguments.stop.min_steps

    @property
    def fast_dev_run(self) -> int | bool:
        """Whether, or with how many batches, everything is only tried."""
        return self.arguments.data.fast_dev_run

    @property
    def log_every_n_steps(self) -> int:
        """Updates from one row of metrics to the next."""
        return self.arguments.output.log_every_n_steps

    @property
    def barebones(self) -> bool:
        """Whether everything optional is left out."""
        return self.arguments.output.barebones

    @property
    def accumulate_grad_batches(self) -> int:
        """Batches per update in the running epoch."""
        schedule = self.arguments.optimization.accumulation
        return self.fit_run.accumulation.size if self._is_fit else schedule[0]

    @property
    def gradient_clip_val(self) -> float | None:
        """Bound for gradients."""
        return self.arguments.optimization.gradient_clip_val

    @property
    def gradient_clip_algorithm(self) -> str | None:
        """How gradients are bounded."""
        return self.arguments.optimization.gradient_clip_algorithm

    @property
    def check_val_every_n_epoch(self) -> int | None:
        """Epochs from one epoch with validation to the next."""
        return self.arguments.data.check_val_every_n_epoch

    @property
    def reload_dataloaders_every_n_epochs(self) -> int:
        """Epochs after which loaders are made anew; 0 for never."""
        return self.arguments.data.reload_dataloaders_every_n_epochs

    @property
    def val_check_interval(self) -> int | float | Duration:
        """Batches (int), share of an epoch (float) or time from one validation to the next."""
        return self.arguments.data.val_check_interval

    @property
    def overfit_batches(self) -> int | float:
        """How many, or which share, of the same batches are trained on over and over."""
        return self.arguments.data.overfit_batches

    @property
    def limit_train_batches(self) -> int | float:
        """How many training batches of an epoch are used (int), or which share of them (float)."""
        return self.arguments.data.limit("train")

    @property
    def limit_val_batches(self) -> int | float:
        """The same for validation."""
        return self.arguments.data.limit("val")

    @property
    def limit_test_batches(self) -> int | float:
        """The same for testing."""
        return self.arguments.data.limit("test")

    @property
    def limit_predict_batches(self) -> int | float:
        """The same for prediction."""
        return self.arguments.data.limit("predict")

    def follow_limits(self) -> None:
        """Let the running fit go by the limits as they are now."""
        limits, stop, data = self.fit_run.limits, self.arguments.stop, self.arguments.data
        limits.max_epochs, limits.max_steps = max_epochs(stop, data), max_steps(stop, data)
        limits.min_epochs, limits.min_steps = stop.min_epochs or 0, stop.min_steps or 0
        self.fit_run.check_now()

    def _stop_at(self, stop: StopArguments) -> None:
        self.arguments = dataclasses.replace(self.arguments, stop=stop)
        if self._is_fit and self.state.status == "running":
            self.follow_limits()

    # What these read: before the first call, and while one is being prepared, there is none of it yet.

    @property
    def _data(self) -> DataConnection | None:
        return self._call.data if self._call is not None and self._call.has_data else None

    @property
    def _is_fit(self) -> bool:
        return self._call is not None and self._call.is_prepared and self._call.stage is Stage.FIT
