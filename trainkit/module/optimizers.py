"""Brings what ``configure_optimizers`` returns into one form: a list of optimizers and a list of scheduler configs.

Allowed are::

    None                                                          no optimizer; nothing is updated
    optimizer
    JointOptimizer(optimizer, ...)                                in the place of an optimizer: one update by several
    [optimizer, ...]                                              several need manual optimization
    [optimizers], [schedulers]                                    each scheduler bare or as a dict
    {"optimizer": optimizer, "lr_scheduler": scheduler}           the scheduler is optional, bare, as a dict, or a list
    [{"optimizer": ..., "lr_scheduler": ...}, ...]

The dict of a scheduler has the fields of `SchedulerConfig`, of which ``scheduler`` is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from trainkit.checks import is_whole, one_of, without_numpy
from trainkit.errors import OptimizerError, UnknownNameError, nearest_name
from trainkit.interval import Interval, is_interval, read_interval
from trainkit.module.joint_optimizer import JointOptimizer, parts_of
from trainkit.output import warn

_WHERE = "configure_optimizers()"
_OF_SCHEDULER = f"{_WHERE}: lr_scheduler"
_OPTIMIZER_KEYS = ("optimizer", "lr_scheduler", "monitor")
_AS_DICT = '"lr_scheduler": {"scheduler": ..., "interval": "step"}'
_SHAPES = (
    "an optimizer, a list of optimizers, ([optimizers], [schedulers]), "
    '{"optimizer": ..., "lr_scheduler": ...} or a list of such dicts, or None'
)


class Scheduler(Protocol):
    """Anything that can step and be saved; usually an ``LRScheduler``."""

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Set the learning rates for the updates that follow."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state from which a resumed run continues."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Restore a state that `state_dict` returned."""


@dataclass(slots=True)
class SchedulerConfig:
    """A scheduler and when it steps.

    Attributes:
        scheduler: The scheduler.
        interval: Whether it steps after epochs or after optimizer steps. With ``every``, what comes nearest to that.
        frequency: It steps once every so many intervals, which are counted over the whole run.
        monitor: The metric that is passed to its ``step``; needed by ``ReduceLROnPlateau``.
        strict: Whether a missing ``monitor`` is an error or a warning.
        name: What the learning rate is called in logs.
        reduce_on_plateau: Whether it steps after the validation, with the monitored metric. Always for a
            ``ReduceLROnPlateau``.
        every: In place of interval and frequency: how far it is from one of its steps to the next, such as
            ``"500 steps"``, ``"2 epochs"``, ``"10k samples"`` or ``"250 batches"`` of the whole run
            (``docs/how-to/intervals.md``). It steps once for each multiple, behind the next update.
    """

    scheduler: Scheduler
    interval: Literal["epoch", "step"] = "epoch"
    frequency: int = 1
    monitor: str | None = None
    strict: bool = True
    name: str | None = None
    reduce_on_plateau: bool = False
    every: str | None = None

    def __post_init__(self) -> None:
        # Any object that can step is a scheduler, and so an optimizer would pass for one, as would a class.
        if not callable(getattr(self.scheduler, "step", None)) or isinstance(self.scheduler, type | Optimizer):
            raise OptimizerError(
                f"{_described(self.scheduler)} is no scheduler.\n"
                f"    in           {_WHERE}\n"
                "    allowed      an instance of torch.optim.lr_scheduler.LRScheduler, or of a class with its methods"
            )
        if self.every is not None:
            self._follow(self.every)
        if is_interval(self.interval):
            raise OptimizerError(
                f"{_OF_SCHEDULER}: interval={self.interval!r} has a number: interval is 'epoch' or 'step', and how far "
                f'it is from one step to the next says "every": {str(self.interval)!r}, without interval.'
            )
        one_of("interval", self.interval, ("epoch", "step"), f"{_WHERE}: lr_scheduler")
        self.frequency = without_numpy(self.frequency)
        if not is_whole(self.frequency, at_least=1):
            raise OptimizerError(
                f"frequency={self.frequency!r} of {type(self.scheduler).__name__} must be a whole number of at least 1."
            )
        self.reduce_on_plateau = self.reduce_on_plateau or isinstance(self.scheduler, ReduceLROnPlateau)

    def counts(self) -> Interval | None:
        """Return what ``every`` says; None where ``interval`` and ``frequency`` say when it steps."""
        return None if self.every is None else read_interval("every", self.every, _OF_SCHEDULER)

    def goes_by_updates(self) -> bool:
        """Whether it steps after so many updates or epochs, and by no other count that ``every`` may name."""
        counts = self.counts()
        return counts is None or counts.unit in ("steps", "epochs")

    def _follow(self, every: str) -> None:
        counts = read_interval("every", every, _OF_SCHEDULER)
        if counts.unit == "seconds":
            raise OptimizerError(
                f"{_OF_SCHEDULER}: every={every!r} is a time, and a schedule that goes by a clock is another one in "
                "every run. Say steps, batches, samples or epochs."
            )
        given = [f"interval={self.interval!r}"] * (self.interval != "epoch")
        given += [f"frequency={self.frequency!r}"] * (self.frequency != 1)
        if given:
            raise OptimizerError(
                f"{_OF_SCHEDULER}: every={every!r} contradicts {' and '.join(given)}, in whose place it stands. "
                "Leave out one or the other."
            )
        # For whoever reads these two; of batches and samples the updates are what comes nearest.
        self.interval = "epoch" if counts.unit == "epochs" else "step"
        if counts.unit in ("steps", "epochs"):
            self.frequency = int(counts.size)


_SCHEDULER_KEYS = [field.name for field in fields(SchedulerConfig)]


def configure(result: Any, *, automatic: bool = True) -> tuple[list[Optimizer], list[SchedulerConfig]]:
    """Normalize and check what ``configure_optimizers`` returned. The top of this file lists the allowed forms.

    Args:
        result: What it returned.
        automatic: Whether the loop steps the schedulers. With manual optimization the user does, so that none needs a
            ``monitor``.

    Returns:
        The optimizers, and the schedulers with when they step.

    Raises:
        OptimizerError: If ``result`` has another form, or an optimizer or scheduler in it cannot be used.
        UnknownNameError: If a dict has an unknown key, or an interval is unknown.
    """
    if result is None:
        warn("configure_optimizers() returned None: nothing will be updated. If it makes an optimizer, return it.")
        return [], []
    optimizers, schedulers = _split(result)
    for optimizer in optimizers:
        _check_optimizer(optimizer)
    # By identity, as optimizers are compared; the same one twice would step twice per update.
    if len({id(optimizer) for optimizer in optimizers}) < len(optimizers):
        raise OptimizerError(f"{_WHERE} returned one optimizer more than once.\n    to do        return it once")
    for config in schedulers:
        _check_scheduler(config, parts_of(optimizers), automatic)
    return optimizers, schedulers


def parameters_of(optimizer: Any) -> list[nn.Parameter]:
    """Return the parameters of all groups of ``optimizer``, or of a wrapper around one, in their order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _split(result: Any) -> tuple[list[Any], list[SchedulerConfig]]:
    """Return the optimizers and schedulers in ``result``, whatever its form. The optimizers are not checked yet."""
    if isinstance(result, Optimizer):
        return [result], []
    if isinstance(result, dict):
        return _from_dict(result)
    if not isinstance(result, list | tuple):
        raise _no_optimizer(result, "")
    # Two optimizers are a pair as well; a pair of lists is told by its first item.
    if len(result) == 2 and isinstance(result[0], list | tuple):
        optimizers, schedulers = result
        schedulers = schedulers if isinstance(schedulers, list | tuple) else [schedulers]
        return list(optimizers), [_scheduler_config(scheduler) for scheduler in schedulers]
    if result and all(isinstance(item, dict) for item in result):
        parts = [_from_dict(item) for item in result]
        return [opt for optimizers, _ in parts for opt in optimizers], [cfg for _, configs in parts for cfg in configs]
    return list(result), []


def _from_dict(result: dict[str, Any]) -> tuple[list[Any], list[SchedulerConfig]]:
    """Return the optimizer and, if there is one, the scheduler of ``{"optimizer": ..., "lr_scheduler": ...}``."""
    result = _known(result, _OPTIMIZER_KEYS, _WHERE)
    if "optimizer" not in result:
        raise OptimizerError(
            f"{_WHERE} returned a dict without 'optimizer'; its keys: {', '.join(result) or '(none)'}."
        )
    schedulers = result.get("lr_scheduler")
    if not isinstance(schedulers, list | tuple):
        schedulers = [] if schedulers is None else [schedulers]
    # A ``monitor`` beside the optimizer is that of its scheduler, as in Lightning.
    return [result["optimizer"]], [_scheduler_config(scheduler, result.get("monitor")) for scheduler in schedulers]


def _scheduler_config(given: Any, monitor: str | None = None) -> SchedulerConfig:
    """Return the config of a scheduler that was given bare, as a dict or as a config."""
    if isinstance(given, SchedulerConfig):
        return given
    if not isinstance(given, dict):
        return SchedulerConfig(given, monitor=monitor)
    given = _known(given, _SCHEDULER_KEYS, _OF_SCHEDULER)
    if "scheduler" not in given:
        raise OptimizerError(f"lr_scheduler is a dict without 'scheduler'; its keys: {', '.join(given) or '(none)'}.")
    return SchedulerConfig(**{"monitor": monitor, **given})


def _known(given: dict[str, Any], allowed: Sequence[str], where: str) -> dict[str, Any]:
    """Return the entries of ``given`` whose keys are allowed. Others warn; one that is nearly an allowed key raises.

    Args:
        given: The dict.
        allowed: The keys that have a meaning.
        where: Where the dict was given; goes into the messages.
    """
    # Not always an error: Lightning ignores unknown keys, and programs that were written for it shall run.
    unknown = [str(key) for key in given if key not in allowed]
    for key in unknown:
        if nearest_name(key, allowed) is not None:
            raise UnknownNameError("key", key, allowed, where)
    if unknown:
        of_scheduler = ", ".join(repr(key) for key in unknown if key in _SCHEDULER_KEYS)
        beside = f' Beside "scheduler" {of_scheduler} would: {_AS_DICT}.' if of_scheduler else ""
        warn(
            f"{where}: the keys {', '.join(map(repr, unknown))} mean nothing here and are left out.{beside} Allowed: "
            f"{', '.join(allowed)}."
        )
    return {key: value for key, value in given.items() if key in allowed}


def _check_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise _no_optimizer(optimizer, " as an optimizer")
    if not parameters_of(optimizer):
        raise OptimizerError(
            f"{type(optimizer).__name__} in {_WHERE} has no parameters.\n"
            "    to do        pass self.parameters(), after the layers are made"
        )


def _check_scheduler(config: SchedulerConfig, optimizers: list[Optimizer], automatic: bool) -> None:
    name = type(config.scheduler).__name__
    own = getattr(config.scheduler, "optimizer", None)  # a scheduler of the user's own class may have none
    if own is not None and not any(own is optimizer for optimizer in optimizers):
        if isinstance(own, JointOptimizer):
            raise OptimizerError(
                f"{name} in {_WHERE} is of a JointOptimizer, which has no rates of its own.\n"
                "    to do        make a scheduler for each of its optimizers, and return them as a list"
            )
        raise OptimizerError(
            f"{name} in {_WHERE} belongs to an optimizer ({type(own).__name__}) that was not returned.\n"
            f"    returned     {', '.join(type(optimizer).__name__ for optimizer in optimizers)}\n"
            "    to do        make the scheduler of an optimizer that is returned"
        )
    if automatic and config.reduce_on_plateau and config.monitor is None:
        raise OptimizerError(
            f"{name} in {_WHERE} needs the name of the metric it watches.\n"
            '    to do        "lr_scheduler": {"scheduler": ..., "monitor": "val/loss"}'
        )


def _no_optimizer(value: Any, role: str) -> OptimizerError:
    """Return the error for ``value``, which was returned where an optimizer is needed."""
    lines = [f"{_WHERE} returned {_described(value)}{role}.", f"    allowed      {_SHAPES}"]
    if isinstance(value, LRScheduler | ReduceLROnPlateau):
        lines.append('    to do        return {"optimizer": optimizer, "lr_scheduler": scheduler}')
    elif isinstance(value, type):
        lines.append(f"    to do        return {value.__name__}(self.parameters(), lr=...)")
    elif hasattr(value, "step") and hasattr(value, "param_groups"):
        lines.append("    why          it is no torch.optim.Optimizer, on which schedulers and states rely")
    return OptimizerError("\n".join(lines))


def _described(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, Optimizer | LRScheduler):
        return f"a {type(value).__name__}"  # as text it has many lines
    return f"a {type(value).__name__} ({value!r:.80})"
