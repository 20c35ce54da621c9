"""Logging the learning rates of all optimizers, and their momenta and weight decays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NotRequired, TypedDict

from torch import Tensor
from torch.optim import Optimizer

from trainkit.callbacks.rates import group_names, made_rates, numbered, rates_of
from trainkit.checks import flags, one_of, takes_numpy
from trainkit.errors import ConfigError
from trainkit.hooks.callback import Callback
from trainkit.interval import is_interval
from trainkit.storage.schema import Count, takes

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

Interval = Literal["step", "epoch"]


class _State(TypedDict):
    """A row that is still to be sent, and the update to which it belongs."""

    row: NotRequired[dict[str, float]]
    row_step: NotRequired[Count]


class LearningRateMonitor(Callback):
    """Sends the learning rate of every optimizer to the loggers.

    A row is due as ``log_every_n_steps`` says, with the rates that the update was made with, and at the start of every
    epoch. Names are ``lr-Adam``, and with several of a kind ``lr-Adam-1``; ``lr-Adam/pg1`` for one of several
    parameter groups, or with the group's ``name`` in place of ``pg1``. A scheduler's ``name`` replaces ``lr-Adam``.

    The parts of a `JointOptimizer` are optimizers like others: ``lr-Muon`` and ``lr-AdamW``.

    Args:
        logging_interval: "step" or "epoch" for all optimizers; None uses the interval of each one's scheduler, and logs
            optimizers without a scheduler at both.
        log_momentum: Whether to log momenta (the first beta where there are betas), as ``lr-SGD-momentum``.
        log_weight_decay: Whether to log weight decays, as ``lr-SGD-weight_decay``.

    Attributes:
        lrs: The learning rates of all rows so far, by name.

    Raises:
        UnknownNameError: If there is no such interval.
        ConfigError: If it is an interval with a number; when a fit starts, if two parameter groups of an optimizer have
            one name.
    """

    @takes_numpy
    def __init__(
        self,
        logging_interval: Interval | None = None,
        log_momentum: bool = False,
        log_weight_decay: bool = False,
    ) -> None:
        if is_interval(logging_interval):
            raise ConfigError(
                f"LearningRateMonitor: logging_interval={logging_interval!r} has a number: it is 'step' or 'epoch'. "
                f"How far it is from one row to the next says Trainer(log_every_n_steps={str(logging_interval)!r})."
            )
        if logging_interval is not None:
            one_of("logging_interval", logging_interval, ("step", "epoch"), "LearningRateMonitor")
        flags("LearningRateMonitor", log_momentum=log_momentum, log_weight_decay=log_weight_decay)
        self.logging_interval = logging_interval
        self.log_momentum = log_momentum
        self.log_weight_decay = log_weight_decay
        self.lrs: dict[str, list[float]] = {}
        self._row: dict[str, Tensor | float] = {}
        self._row_step = -1

    def on_train_start(self, trainer: Trainer) -> None:
        self.lrs = {name: [] for source in _sources(trainer) for name in source.names}
        if not trainer.fit_run.is_resumed:
            self._row_step = -1

    def on_train_epoch_start(self, trainer: Trainer) -> None:
        if self.logging_interval != "step":
            self._send(trainer, self._read(trainer, "epoch"))

    def on_train_batch_start(self, trainer: Trainer) -> None:
        # Read before the batch, because schedulers step ahead of this plugin's on_train_batch_end, which would find
        # the rates of the next update. Sent there, because only then it is known that the update was made.
        step = trainer.global_step + 1
        if self.logging_interval != "epoch" and trainer.fit_run.rows.may_have(step):
            self._row, self._row_step = self._read(trainer, "step"), step

    def on_train_batch_end(self, trainer: Trainer) -> None:
        self._send_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer) -> None:
        # The end of an epoch makes the update of an open group.
        self._send_if_due(trainer)

    def _send_if_due(self, trainer: Trainer) -> None:
        if trainer.global_step == self._row_step and trainer.fit_run.rows.newest_has_one():
            # What an optimizer makes of its rate itself it has noted in the step.
            made = {
                name: rate
                for source in _sources(trainer)
                for name, rate in zip(source.names, made_rates(source.optimizer), strict=True)
                if rate is not None and name in self._row
            }
            self._send(trainer, self._row | made)
            self._row_step = -1

    def state_dict(self) -> dict[str, Any]:
        """Return the row that was read before an update, and is still to be sent."""
        return {"row": _as_floats(self._row), "row_step": self._row_step} if self._row_step >= 0 else {}

    @takes(_State)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._row, self._row_step = {**state.get("row", {})}, state.get("row_step", -1)

    def _send(self, trainer: Trainer, kept: Mapping[str, Tensor | float]) -> None:
        row = _as_floats(kept)
        for name in [name for source in _sources(trainer) for name in source.names if name in row]:
            self.lrs.setdefault(name, []).append(row[name])
        trainer.metrics.note(row)  # so that EarlyStopping and others can monitor it
        trainer.log_metrics(row, trainer.global_step)

    def _read(self, trainer: Trainer, interval: Interval) -> dict[str, Tensor | float]:
        row: dict[str, Any] = {}
        for source in _sources(trainer):
            if self.logging_interval is None and source.interval not in (None, interval):
                continue
            groups = zip(source.names, source.optimizer.param_groups, rates_of(source.optimizer), strict=True)
            for name, group, rate in groups:
                if rate is not None:
                    row[name] = rate
                if self.log_momentum:
                    row[f"{name}-momentum"] = group["betas"][0] if "betas" in group else group.get("momentum", 0.0)
                if self.log_weight_decay:
                    row[f"{name}-weight_decay"] = group.get("weight_decay", 0.0)
        # Schedulers write into tensors. A copy stays where it is: to read it would wait for the device, before each
        # batch where rows go by another unit than steps.
        return {name: value.detach().clone() if isinstance(value, Tensor) else value for name, value in row.items()}


def _as_floats(row: Mapping[str, Tensor | float]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items()}


class _Source(NamedTuple):
    """An optimizer and the names of its curves.

    Attributes:
        optimizer: The optimizer.
        names: One name for each of its parameter groups.
        interval: When its scheduler steps; None if it has none.
    """

    optimizer: Optimizer
    names: list[str]
    interval: Interval | None


def _sources(trainer: Trainer) -> Iterator[_Source]:
    # Made anew for each row: parameter groups may be added in mid-run, and schedulers may be replaced.
    seen: Counter[str] = Counter()
    scheduled: list[Optimizer] = []
    for config in trainer.lr_scheduler_configs:
        # A scheduler need not be torch's: the user may step anything in lr_scheduler_step.
        optimizer = getattr(config.scheduler, "optimizer", None)
        if optimizer is not None:
            scheduled.append(optimizer)
            name = numbered(config.name or f"lr-{type(optimizer).__name__}", seen)
            yield _Source(optimizer, _names(optimizer, name), config.interval)
    for optimizer in trainer.optimizers:
        if not any(optimizer is one for one in scheduled):  # with a scheduler, it has been yielded above
            yield _Source(optimizer, _names(optimizer, numbered(f"lr-{type(optimizer).__name__}", seen)), None)


def _names(optimizer: Optimizer, name: str) -> list[str]:
    names = group_names(optimizer)
    if len(set(names)) < len(names):
        kind = type(optimizer).__name__
        raise ConfigError(f"LearningRateMonitor: parameter groups of {kind} are named {names}; names must differ.")
    return [f"{name}/{own}" if own else name for own in names]
