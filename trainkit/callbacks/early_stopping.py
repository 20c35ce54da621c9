"""Early stopping: ends a fit when a metric no longer improves."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NotRequired, TypedDict

from torch import Tensor

from trainkit.callbacks.monitor import (
    Mode,
    as_score,
    check_mode,
    check_monitor,
    is_better,
    missing_metric,
    refuse_missing,
    worst,
)
from trainkit.checks import flags, number, takes_numpy, whole
from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage
from trainkit.output import say, warn
from trainkit.printable import printable
from trainkit.storage.schema import Count, Scalar, takes
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class EarlyStoppingReason(StrEnum):
    """Why early stopping ended a fit."""

    NOT_STOPPED = "not stopped"
    PATIENCE_EXHAUSTED = "patience exhausted"
    STOPPING_THRESHOLD = "stopping threshold"
    DIVERGENCE_THRESHOLD = "divergence threshold"
    NON_FINITE_METRIC = "non-finite metric"


class _State(TypedDict):
    """The best score, and how long ago that was."""

    wait_count: Count
    stopped_epoch: Count
    best_score: Scalar
    best_epoch: NotRequired[Count | None]
    stopped_with: NotRequired[dict[str, Any] | None]
    used_version: NotRequired[Count | None]


class EarlyStopping(Callback):
    """Sets ``trainer.should_stop`` when a metric has not improved for a number of checks.

    There is one check for each validation, or for each epoch if nothing is validated. For a validation after the last
    batch of an epoch the check is made at the end of the epoch, when its metrics are complete. A check that finds no
    newer value than the last one did does not count. If one rank stops, all ranks stop.

    Args:
        monitor: The name of the metric.
        min_delta: By how much it has to improve to count as better.
        patience: Checks without improvement after which the fit ends.
        verbose: Whether to print improvements, and why the fit ends.
        mode: Whether lower ("min") or higher ("max") is better.
        strict: Whether it is an error if the metric has not been logged; otherwise a warning, once.
        check_finite: Whether to stop when the metric is NaN or infinite.
        stopping_threshold: Stop as soon as the metric is better than this.
        divergence_threshold: Stop as soon as the metric is worse than this.
        check_on_train_epoch_end: True checks at the end of every epoch only, False after every validation only.
        log_rank_zero_only: Whether only rank 0 prints.

    Attributes:
        best_score: The best value so far.
        best_epoch: The epoch in which that was; None if there was none.
        wait_count: Checks since then.
        stopped_epoch: The epoch in which it stopped the fit; 0 if it did not.
        stopping_reason: Why it stopped the fit.
        stopping_reason_message: The same in words.
        wants_stop: Whether it has stopped the fit. A run that it has ended goes on only if it is given other arguments.

    Raises:
        ConfigError: If an argument is not usable.
        MetricError: When a check finds that the metric has not been logged.
    """

    stage: ClassVar[PluginStage] = "decide"  # after everything that logs, and before checkpoints are saved

    @takes_numpy
    def __init__(
        self,
        monitor: str,
        min_delta: float = 0.0,
        patience: int = 3,
        verbose: bool = False,
        mode: Mode = "min",
        *,
        strict: bool = True,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_on_train_epoch_end: bool | None = None,
        log_rank_zero_only: bool = False,
    ) -> None:
        check_monitor(monitor, "EarlyStopping")
        check_mode(mode, "EarlyStopping")
        whole("patience", patience, where="EarlyStopping")
        number("min_delta", min_delta, at_least=0, finite=True, where="EarlyStopping")
        for name, threshold in (("stopping", stopping_threshold), ("divergence", divergence_threshold)):
            number(f"{name}_threshold", threshold, optional=True, where="EarlyStopping")
        flags("EarlyStopping", verbose=verbose, strict=strict, check_finite=check_finite)
        flags("EarlyStopping", log_rank_zero_only=log_rank_zero_only)
        flags("EarlyStopping", optional=True, check_on_train_epoch_end=check_on_train_epoch_end)
        self.monitor = monitor
        self.min_delta = min_delta
        self.patience = patience
        self.verbose = verbose
        self.mode = mode
        self.strict = strict
        self.check_finite = check_finite
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self.check_on_train_epoch_end = check_on_train_epoch_end
        self.log_rank_zero_only = log_rank_zero_only
        self.best_score = worst(mode)
        self.best_epoch: int | None = None
        self.wait_count = 0
        self.stopped_epoch = 0
        self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        self.stopping_reason_message: str | None = None
        self.wants_stop = False
        self._used_version: int | None = None  # the number of the value that was checked last
        self._warned = False

    @property
    def state_key(self) -> str:
        # Two callbacks that watch different metrics have different states in one checkpoint.
        return self._state_key(monitor=self.monitor, mode=self.mode)

    def on_train_start(self, trainer: Trainer) -> None:
        self._warned = False
        # Numbers of values are those of one Trainer, and this callback may have been in another.
        if not trainer.fit_run.is_resumed:
            self._used_version = None

    def on_validation_end(self, trainer: Trainer) -> None:
        if trainer.state.fn != Stage.FIT or trainer.sanity_checking:
            return
        # After the last batch the epoch ends next; on_train_epoch_end checks then, so that no validation counts twice.
        at_epoch_end = trainer.is_last_batch if self.check_on_train_epoch_end is None else self.check_on_train_epoch_end
        if not at_epoch_end:
            self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer) -> None:
        due = self.check_on_train_epoch_end
        if due is None:
            # Either the validation that on_validation_end left for now, or an epoch of a fit without validation. Where
            # only some epochs are validated, the others have no new value to check.
            validated = trainer.is_last_batch and trainer.progress.validated_batch == trainer.progress.batch
            due = validated or not any(trainer.num_val_batches)
        if due:
            self._check(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score and the counters. Arguments are left out: on resume those given in code hold."""
        return {
            "wait_count": self.wait_count,
            "stopped_epoch": self.stopped_epoch,
            "best_score": self.best_score.item(),
            "best_epoch": self.best_epoch,
            "stopped_with": self._arguments() if self.wants_stop else None,
            "used_version": self._used_version,
        }

    @takes(_State)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.wait_count = state["wait_count"]
        self.stopped_epoch = state["stopped_epoch"]
        self.best_score = as_score(state["best_score"])
        self.best_epoch = state.get("best_epoch")
        self._used_version = state.get("used_version")
        stopped_with = state.get("stopped_with")
        self.wants_stop = stopped_with is not None and stopped_with == self._arguments()

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments that decide when to stop."""
        names = ("patience", "min_delta", "check_finite", "stopping_threshold", "divergence_threshold")
        return {name: getattr(self, name) for name in names}

    def _check(self, trainer: Trainer) -> None:
        # Ahead of all else: a name that is wrong is what a fast dev run is to find.
        if self._is_missing(trainer) or trainer.fast_dev_run:
            return
        # The same number may have been logged again, and counts; a value that is still there is no new one.
        used, self._used_version = self._used_version, trainer.metrics.version(self.monitor)
        reason, message = EarlyStoppingReason.NOT_STOPPED, ""
        if self._used_version != used:
            before = self.best_score
            reason, message = self._evaluate(as_score(trainer.callback_metrics[self.monitor]))
            if self.best_score is not before:
                self.best_epoch = trainer.current_epoch
        if self.verbose and message and (trainer.is_global_zero or not self.log_rank_zero_only):
            rank = f"[rank {trainer.global_rank}] " if trainer.world_size > 1 else ""
            say(f"{rank}EarlyStopping: {message}")
        # A rank that stopped alone would leave the others waiting in the next collective.
        stops = reason is not EarlyStoppingReason.NOT_STOPPED
        if stops if trainer.metrics.is_shared(self.monitor) else trainer.strategy.any_rank(stops):
            trainer.fit_run.stop_signal.ask(by=self.state_key)
            self.wants_stop = True
            self.stopped_epoch = trainer.current_epoch
            self.stopping_reason, self.stopping_reason_message = reason, message

    def _is_missing(self, trainer: Trainer) -> bool:
        """Whether any rank lacks the metric.

        Raises:
            MetricError: If so, and ``strict`` is True.
        """
        metrics = trainer.callback_metrics
        # Asked of all ranks: those that have it would otherwise wait for the others in `_check`.
        if trainer.metrics.is_shared(self.monitor) or not trainer.strategy.any_rank(self.monitor not in metrics):
            return False
        if self.strict:
            refuse_missing(trainer, self.monitor, metrics, "EarlyStopping")
        if not self._warned:
            self._warned = True
            message = missing_metric(self.monitor, metrics, "EarlyStopping", trainer.metrics)
            warn(message)
        return True

    def _evaluate(self, score: Tensor) -> tuple[EarlyStoppingReason, str]:
        """Compare ``score`` with the best so far; return why to stop, or NOT_STOPPED, and a message for the user."""
        now, best = f"{printable(self.monitor)} = {score.item():.6g}", f"the best was {self.best_score.item():.6g}"
        if self.check_finite and not math.isfinite(score):
            return EarlyStoppingReason.NON_FINITE_METRIC, f"{now} is not finite; {best}."
        if self.stopping_threshold is not None and is_better(score, self.stopping_threshold, self.mode):
            return EarlyStoppingReason.STOPPING_THRESHOLD, f"{now} has passed {self.stopping_threshold}."
        if self.divergence_threshold is not None and is_better(self.divergence_threshold, score, self.mode):
            return EarlyStoppingReason.DIVERGENCE_THRESHOLD, f"{now} is worse than {self.divergence_threshold}; {best}."
        # Worsened by min_delta, it still has to be strictly better. A NaN never is, so it counts as no improvement.
        improvement = score + self.min_delta if self.mode == "min" else score - self.min_delta
        if is_better(improvement, self.best_score, self.mode):
            self.best_score, self.wait_count = score, 0
            return EarlyStoppingReason.NOT_STOPPED, f"{now} has improved; {best}."
        self.wait_count += 1
        if self.wait_count >= self.patience:
            return (
                EarlyStoppingReason.PATIENCE_EXHAUSTED,
                f"{now} is no improvement, {self.wait_count} in a row; {best}.",
            )
        return EarlyStoppingReason.NOT_STOPPED, ""
