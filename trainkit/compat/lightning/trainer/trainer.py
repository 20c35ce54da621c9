"""`Trainer` with Lightning's arguments."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from trainkit import trainer as core
from trainkit.callbacks import model_summary, progress_bar
from trainkit.callbacks.model_checkpoint import callback as model_checkpoint
from trainkit.checks import takes_numpy
from trainkit.compat.lightning.absent import INSTEAD_OF_ADVANCED, LATER_TUNER, Absent
from trainkit.compat.lightning.accelerators import Accelerator, accelerator_of
from trainkit.compat.lightning.callbacks import Callback, ModelCheckpoint, ModelSummary, TQDMProgressBar
from trainkit.compat.lightning.loggers import CSVLogger, TensorBoardLogger
from trainkit.compat.lightning.plugins import TorchSyncBatchNorm
from trainkit.compat.lightning.profilers import PassThroughProfiler, PyTorchProfiler, SimpleProfiler
from trainkit.compat.lightning.trainer.loops import FitLoop
from trainkit.compat.lightning.trainer.settings import add_settings
from trainkit.data.module import DataModule
from trainkit.data.resume.other_data import Resume
from trainkit.errors import ConfigError, UnsupportedError
from trainkit.module import TrainModule
from trainkit.precision.base import Precision
from trainkit.trainer.bind_optimizers import check_optimizers

Path = str | os.PathLike[str]

_LOOPS = "trainer.progress and trainer.current_epoch for counters; a new Trainer, or trainer.should_stop, for limits"


@add_settings
class Trainer(core.Trainer):
    """trainkit's `Trainer`, which takes Lightning's arguments and objects.

    Args:
        accelerator: A name or an accelerator of this package.
        logger: Loggers; True is TensorBoard and CSV files under ``lightning_logs``.
        callbacks: One or more callbacks.
        profiler: ``"simple"``, ``"pytorch"``, or a profiler, also one of trainkit or of a plugin.
        plugins: A precision or a ``TorchSyncBatchNorm``, or a list of them. A dict has trainkit's own options.
        enable_autolog_hparams: Whether loggers receive hyperparameters.
        model_registry: Must be None.
        arguments: All others, as in `trainkit.Trainer`.
    """

    validate_loop = Absent(_LOOPS)
    test_loop = Absent(_LOOPS)
    predict_loop = Absent(f"what trainer.predict() returns, or a BasePredictionWriter; {_LOOPS}")
    tune = Absent(LATER_TUNER)
    init_module = Absent("configure_model, which is called when the device is known")
    distributed_sampler_kwargs = Absent("trainer.world_size and trainer.global_rank")
    val_check_batch = Absent("trainer.val_check_interval")

    @takes_numpy
    def __init__(
        self,
        *,
        accelerator: str | Accelerator = "auto",
        logger: Any = None,
        callbacks: Any = None,
        profiler: Any = None,
        plugins: Any = None,
        enable_autolog_hparams: bool = True,
        model_registry: str | None = None,
        **arguments: Any,
    ) -> None:
        if model_registry is not None:
            raise ConfigError(f"model_registry={model_registry!r} is not supported. Give ckpt_path a path.")
        if profiler == "advanced":
            raise UnsupportedError("Trainer(profiler='advanced')", INSTEAD_OF_ADVANCED)
        is_quiet = bool(arguments.get("barebones"))
        named = {"simple": SimpleProfiler, "pytorch": PyTorchProfiler}
        profiler = named[profiler]() if isinstance(profiler, str) and profiler in named else profiler
        is_idle = profiler is None or isinstance(profiler, PassThroughProfiler)
        super().__init__(
            accelerator=accelerator.name if isinstance(accelerator, Accelerator) else accelerator,
            logger=_loggers(logger, arguments),
            callbacks=_as_list(callbacks) if is_quiet else _with_defaults(_as_list(callbacks), arguments),
            profiler=None if is_idle else profiler,
            **_without_none(arguments | _from_plugins(plugins)),
        )
        if is_idle:
            self.profiler = profiler or PassThroughProfiler()

    @property
    def accelerator(self) -> Accelerator:
        """The kind of device that is used."""
        return accelerator_of(self.strategy.device)

    @property
    def device_ids(self) -> list[int]:
        """The indexes of the devices of this machine that are used."""
        return [device.index or 0 for device in self.strategy.devices]

    @property
    def precision_plugin(self) -> Precision:
        """The precision, which is an object in trainkit; ``str(trainer.precision)`` is its name."""
        return self.precision

    @property
    def scaler(self) -> Any:
        """The gradient scaler of ``16-mixed``; None in other precisions."""
        return getattr(self.precision, "scaler", None)

    @property
    def enable_validation(self) -> bool:
        """Whether the running or last fit validates."""
        return bool(self.num_val_batches)

    @property
    def received_sigterm(self) -> bool:
        """Whether SIGTERM has asked the run to stop."""
        return self._call is not None and self._call.stop_signal.received == signal.SIGTERM

    def fit(
        self,
        model: TrainModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: DataModule | None = None,
        ckpt_path: Path | None = None,
        weights_only: bool | None = None,
        *,
        take: str | Sequence[str] = (),
        resume: Resume = "exact",
    ) -> None:
        self._let_callbacks_log()
        model = _uncompiled(model)
        super().fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, take=take, resume=resume)

    def validate(
        self,
        model: TrainModule | None = None,
        dataloaders: Any = None,
        ckpt_path: Path | None = None,
        verbose: bool = True,
        datamodule: DataModule | None = None,
        weights_only: bool | None = None,
    ) -> list[dict[str, float]]:
        self._let_callbacks_log()
        return super().validate(_uncompiled(model), dataloaders, ckpt_path, verbose, datamodule)

    def test(
        self,
        model: TrainModule | None = None,
        dataloaders: Any = None,
        ckpt_path: Path | None = None,
        verbose: bool = True,
        datamodule: DataModule | None = None,
        weights_only: bool | None = None,
    ) -> list[dict[str, float]]:
        self._let_callbacks_log()
        return super().test(_uncompiled(model), dataloaders, ckpt_path, verbose, datamodule)

    def predict(
        self,
        model: TrainModule | None = None,
        dataloaders: Any = None,
        datamodule: DataModule | None = None,
        return_predictions: bool | None = None,
        ckpt_path: Path | None = None,
        weights_only: bool | None = None,
    ) -> list[Any] | None:
        self._let_callbacks_log()
        return super().predict(_uncompiled(model), dataloaders, datamodule, return_predictions, ckpt_path)

    @property
    def fit_loop(self) -> FitLoop:
        """Limits, which may be set, and counters."""
        return FitLoop(self)

    @property
    def logger(self) -> Any:
        """The first logger; setting it replaces all loggers, from the next call on."""
        return super().logger

    @logger.setter
    def logger(self, logger: Any) -> None:
        self.loggers = [] if logger is None else _as_list(logger)

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers of the fit; setting them replaces those of the running one."""
        return super().optimizers

    @optimizers.setter
    def optimizers(self, optimizers: list[torch.optim.Optimizer]) -> None:
        run = self.fit_run
        check_optimizers(run.module, optimizers, run.strategy, self.arguments.optimization)
        run.replace_optimizers(optimizers)

    def _let_callbacks_log(self) -> None:
        for callback in self.callbacks:
            if isinstance(callback, Callback):
                callback._trainer = self


def _without_none(arguments: dict[str, Any]) -> dict[str, Any]:
    """Leave out arguments that are None where Lightning means its default, and trainkit has no None."""
    parameters = inspect.signature(core.Trainer).parameters.values()
    # There None is a value of its own: batches are counted across epochs.
    takes_none = {parameter.name for parameter in parameters if parameter.default is None} | {"check_val_every_n_epoch"}
    return {name: value for name, value in arguments.items() if value is not None or name in takes_none}


def _uncompiled(model: Any) -> Any:
    """Return the module in what ``torch.compile(module)`` returned, compiled in place: it has the steps and hooks."""
    module = getattr(model, "_orig_mod", model)
    if module is not model:
        module.compile()
    return module


def _as_list(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]


def _with_defaults(callbacks: list[Any], arguments: dict[str, Any]) -> list[Any]:
    """Add the callbacks that a Trainer has by default, in this package's version of them."""
    defaults: list[tuple[str, type, type]] = [
        ("enable_progress_bar", progress_bar.ProgressBar, TQDMProgressBar),
        ("enable_model_summary", model_summary.ModelSummary, ModelSummary),
    ]
    if not arguments.get("fast_dev_run"):
        defaults.append(("enable_checkpointing", model_checkpoint.ModelCheckpoint, ModelCheckpoint))
    for argument, kind, own in defaults:
        is_wanted = arguments.get(argument) in (None, True)
        if is_wanted and not any(isinstance(callback, kind) for callback in callbacks):
            callbacks.append(own())
    return callbacks


def _loggers(logger: Any, arguments: dict[str, Any]) -> Any:
    if logger is True or (logger is None and not arguments.get("barebones")):
        tensorboard = TensorBoardLogger(arguments.get("default_root_dir") or os.getcwd())
        return [tensorboard, CSVLogger.beside(tensorboard)]
    return list(logger) if isinstance(logger, Iterable) else logger


def _from_plugins(plugins: Any) -> dict[str, Any]:
    """Return the arguments of trainkit's Trainer that Lightning's plugins stand for."""
    if plugins is None or isinstance(plugins, dict):
        return {"plugins": plugins}
    arguments: dict[str, Any] = {}
    for plugin in _as_list(plugins):
        if isinstance(plugin, Precision):
            arguments["precision"] = plugin
        elif isinstance(plugin, TorchSyncBatchNorm):
            arguments["sync_batchnorm"] = True
        else:
            raise ConfigError(
                f"plugins: a {type(plugin).__name__} is not supported. Allowed: a precision, TorchSyncBatchNorm, or a "
                "dict with trainkit's own options."
            )
    return arguments
