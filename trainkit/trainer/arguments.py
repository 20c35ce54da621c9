"""The Trainer's arguments, grouped into frozen dataclasses that check themselves when they are made.

Their defaults are in ``Trainer.__init__`` (its signature or, where that says None, its body), and nowhere else.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar

from trainkit.checks import Duration, clipping, file_path, flag, one_of, seconds, share, whole
from trainkit.errors import ConfigError
from trainkit.interval import Interval, read_interval

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class StopArguments:
    """How long to train."""

    max_epochs: int | None
    min_epochs: int | None
    max_steps: int
    min_steps: int | None
    max_time: Duration | None

    def __post_init__(self) -> None:
        whole("max_epochs", self.max_epochs, at_least=-1, optional=True)
        whole("min_epochs", self.min_epochs, optional=True)
        whole("max_steps", self.max_steps, at_least=-1)
        whole("min_steps", self.min_steps, optional=True)
        seconds("max_time", self.max_time)
        if self.max_epochs not in (None, -1) and (self.min_epochs or 0) > (self.max_epochs or 0):
            raise ConfigError(f"min_epochs={self.min_epochs} is more than max_epochs={self.max_epochs}.")
        if self.max_steps != -1 and (self.min_steps or 0) > self.max_steps:
            raise ConfigError(f"min_steps={self.min_steps} is more than max_steps={self.max_steps}.")


@dataclass(frozen=True, kw_only=True)
class DataArguments:
    """How much of the data to use, and when to validate on it."""

    limit_train_batches: int | float
    limit_val_batches: int | float
    limit_test_batches: int | float
    limit_predict_batches: int | float
    overfit_batches: int | float
    fast_dev_run: int | bool
    val_check_interval: int | float | Duration
    check_val_every_n_epoch: int | None
    num_sanity_val_steps: int
    reload_dataloaders_every_n_epochs: int
    use_distributed_sampler: bool

    def __post_init__(self) -> None:
        # 1 is one batch and 1.0 all of them, so a float above 1 is nearly always a slip: `share` says so.
        for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"):
            share("Trainer", name, getattr(self, name))
        share("Trainer", "overfit_batches", self.overfit_batches)
        whole("fast_dev_run", int(self.fast_dev_run) if isinstance(self.fast_dev_run, bool) else self.fast_dev_run)
        if self.validate_every is not None:
            self._refuse_epochs_beside_a_unit()
        else:
            share("Trainer", "val_check_interval", self.val_check_interval)
            if self.val_check_interval == 0:
                raise ConfigError("val_check_interval=0 is not usable. To validate never, say limit_val_batches=0.")
        whole("check_val_every_n_epoch", self.check_val_every_n_epoch, at_least=1, optional=True)
        # A share is one of an epoch, which counting across epochs does not have.
        if self.check_val_every_n_epoch is None and isinstance(self.val_check_interval, float):
            raise ConfigError(
                "check_val_every_n_epoch=None counts batches across epochs, so "
                f"val_check_interval={self.val_check_interval} "
                "must be a whole number of batches (or a duration)."
            )
        whole("num_sanity_val_steps", self.num_sanity_val_steps, at_least=-1)
        whole("reload_dataloaders_every_n_epochs", self.reload_dataloaders_every_n_epochs)
        flag("use_distributed_sampler", self.use_distributed_sampler)

    def _refuse_epochs_beside_a_unit(self) -> None:
        interval, epochs = self.val_check_interval, self.check_val_every_n_epoch
        if isinstance(interval, str) and ":" not in interval and epochs not in (None, 1):
            raise ConfigError(
                f"val_check_interval={interval!r} counts over the whole run, which contradicts "
                f"check_val_every_n_epoch={epochs!r}. Leave out one of them."
            )

    @property
    def validate_every(self) -> Interval | None:
        """What ``val_check_interval`` says where it has a unit or is a time; None where it is a number."""
        interval = self.val_check_interval
        if not isinstance(interval, str | timedelta | dict):
            return None
        return read_interval("val_check_interval", interval, "Trainer")

    @property
    def sanity_batches(self) -> float:
        """How many validation batches of each loader to try ahead of training, at most."""
        if self.fast_dev_run or self.overfit_batches:
            return 0
        return math.inf if self.num_sanity_val_steps == -1 else self.num_sanity_val_steps

    def sanity_limit(self, num_batches: int | None) -> int | float:
        """The limit for the sanity check of a loader with so many batches; None is unknown."""
        batches = self.sanity_batches if num_batches is None else min(self.sanity_batches, num_batches)
        return 1.0 if batches == math.inf else int(batches)

    def limit(self, loader: Literal["train", "val", "test", "predict"]) -> int | float:
        """How many batches of a loader to use: a number of batches or a share of them."""
        if self.fast_dev_run:
            return int(self.fast_dev_run)
        if self.overfit_batches and loader in ("train", "val"):
            return self.overfit_batches
        limit: int | float = getattr(self, f"limit_{loader}_batches")
        return limit


@dataclass(frozen=True, kw_only=True)
class OptimizationArguments:
    """How gradients become updates."""

    accumulate_grad_batches: int | Mapping[int, int] | Literal["auto"]
    gradient_clip_val: float | None
    gradient_clip_algorithm: Literal["norm", "value"] | None
    on_nonfinite_loss: Literal["warn", "stop", "ignore"]
    detect_anomaly: bool
    deterministic: bool | Literal["warn"] | None
    benchmark: bool | None
    sync_batchnorm: bool
    inference_mode: bool
    compile: bool | Literal["step", "cuda-graph"]

    def __post_init__(self) -> None:
        self._check_accumulation()
        clipping(self.gradient_clip_val, self.gradient_clip_algorithm, "Trainer")
        one_of("on_nonfinite_loss", self.on_nonfinite_loss, ["warn", "stop", "ignore"], "Trainer")
        if not isinstance(self.benchmark, bool | None):  # torch takes no 1 for True
            raise ConfigError(f"benchmark={self.benchmark!r} is not usable. Allowed: True, False, or None to leave it.")
        if self.deterministic not in (None, True, False, "warn"):
            raise ConfigError(f"deterministic={self.deterministic!r} is not usable. Allowed: True, False, 'warn'.")
        if self.compile not in (True, False, "step", "cuda-graph"):
            raise ConfigError(
                f"compile={self.compile!r} is not usable. Allowed: True (the layers), 'step' (the whole training "
                "step), 'cuda-graph' (the same without a compiler), False."
            )
        self._refuse_beside_a_compiled_step()
        for name in ("detect_anomaly", "sync_batchnorm", "inference_mode"):
            flag(name, getattr(self, name))

    def _check_accumulation(self) -> None:
        accumulate = self.accumulate_grad_batches
        if accumulate == {}:
            raise ConfigError(
                "accumulate_grad_batches={} is not usable. Allowed: a number, or a dict such as {0: 1, 4: 2}."
            )
        if isinstance(accumulate, str) and accumulate != "auto":
            raise ConfigError(
                f"accumulate_grad_batches={accumulate!r} is not usable. Allowed: a number of batches, a dict from "
                "epochs to numbers, or 'auto'."
            )
        for k in accumulate.values() if isinstance(accumulate, Mapping) else self.accumulation.values():
            whole("accumulate_grad_batches", k, at_least=1)
        if isinstance(accumulate, Mapping):
            for epoch in accumulate:
                whole("accumulate_grad_batches: an epoch", epoch)

    def _refuse_beside_a_compiled_step(self) -> None:
        """Refuse what cannot be done within one graph: here, before any data is loaded."""
        if not self.compiles_step:
            return
        if self.splits_batches:
            raise ConfigError(
                "accumulate_grad_batches='auto' begins a step anew where memory runs out, which cannot be done within "
                f"the one graph of compile={self.compile!r}. Give a number of batches, or use compile=True."
            )
        if self.detect_anomaly:
            raise ConfigError(
                f"detect_anomaly=True looks at single operations, of which compile={self.compile!r} leaves none."
            )
        if self.on_nonfinite_loss == "stop":
            raise ConfigError(
                "on_nonfinite_loss='stop' looks at each loss ahead of backward, which within the one graph of "
                f"compile={self.compile!r} nobody can. Use 'warn', which tells of a logged one, or compile=True."
            )

    @property
    def accumulation(self) -> dict[int, int]:
        """Batches per update, by the epoch from which each number holds. Epoch 0 is always there."""
        if isinstance(self.accumulate_grad_batches, Mapping):
            return {0: 1, **self.accumulate_grad_batches}
        return {0: 1 if isinstance(self.accumulate_grad_batches, str) else self.accumulate_grad_batches}

    @property
    def compiles_step(self) -> bool:
        """Whether a whole training step becomes one graph."""
        return self.compile in ("step", "cuda-graph")

    @property
    def splits_batches(self) -> bool:
        """Whether a batch that does not fit into memory is computed in parts."""
        return self.accumulate_grad_batches == "auto"


@dataclass(frozen=True, kw_only=True)
class OutputArguments:
    """What a run tells and writes."""

    log_every_n_steps: int | str
    enable_checkpointing: bool
    keep_last: bool
    enable_progress_bar: bool
    enable_model_summary: bool
    print_schedule: bool
    default_root_dir: str | os.PathLike[str] | None
    barebones: bool

    def __post_init__(self) -> None:
        if isinstance(self.log_every_n_steps, str):
            read_interval("log_every_n_steps", self.log_every_n_steps, "Trainer")
        else:
            whole("log_every_n_steps", self.log_every_n_steps)
        for name in ("enable_checkpointing", "keep_last", "enable_progress_bar", "enable_model_summary", "barebones"):
            flag(name, getattr(self, name))
        file_path("Trainer", default_root_dir=self.default_root_dir)
        flag("print_schedule", self.print_schedule)

    @property
    def log_every(self) -> Interval | None:
        """What ``log_every_n_steps`` says; None where it is 0, and there are no rows of steps."""
        every = self.log_every_n_steps
        if isinstance(every, str):
            return read_interval("log_every_n_steps", every, "Trainer")
        return Interval(every, "steps") if every else None

    @property
    def root(self) -> str:
        """The folder under which everything is written."""
        return os.fspath(self.default_root_dir) if self.default_root_dir is not None else os.getcwd()


@dataclass(frozen=True, kw_only=True)
class TrainerArguments:
    """The Trainer's arguments, by group.

    Attributes:
        stop: How long to train.
        data: How much of the data to use, and when to validate on it.
        optimization: How gradients become updates.
        output: What a run tells and writes.
    """

    stop: StopArguments
    data: DataArguments
    optimization: OptimizationArguments
    output: OutputArguments


def given(value: T | None, default: T) -> T:
    """Return ``value``, or ``default`` where it is None."""
    return default if value is None else value


def refuse_beside_barebones(**arguments: object) -> None:
    """Raise `ConfigError` if something optional was asked for, of which ``barebones=True`` leaves out all."""
    for name, value in arguments.items():
        if value:
            raise ConfigError(
                f"barebones=True leaves out everything optional, which contradicts {name}={value!r}. Leave out one of "
                "them."
            )
