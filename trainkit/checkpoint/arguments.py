"""What optimizers, schedulers and other objects were made with, read back from the objects."""

from __future__ import annotations

import functools
import inspect
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from trainkit.checkpoint.changes import Rows, same
from trainkit.module.optimizers import SchedulerConfig

CYCLE_OPTIONS = ("max_lr", "min_lr", "max_momentum", "base_momentum")
"""What a `OneCycleLR` or `CyclicLR` keeps in the groups of its optimizer."""

_BOOKKEEPING = ("params", "param_names", "initial_lr")
_NOT_TOLD = ("self", "optimizer", "schedulers", "last_epoch", "verbose")
_MOST_NUMBERS = 16
"""A tensor with more numbers than this stays a tensor."""

_WITHOUT_STATE = (FunctionType, BuiltinFunctionType, MethodType, functools.partial, type, nn.Module)


def optimizer_arguments(groups: Sequence[Mapping[str, Any]], schedulers: Sequence[Any]) -> Rows:
    """Return the options of parameter groups: one value where all groups have the same, else one for each group.

    A learning rate is the one that the code said, and not what a scheduler made of it.

    Args:
        groups: The parameter groups of an optimizer, or of its state.
        schedulers: All schedulers of the optimizer. What one of them cycles is an argument of its own.
    """
    cycling = [scheduler for scheduler in schedulers if isinstance(scheduler, OneCycleLR | CyclicLR)]
    turns_momentum = any(scheduler.cycle_momentum for scheduler in cycling)
    left_out = {*_BOOKKEEPING, *(("lr", *CYCLE_OPTIONS) if cycling else ()), *(("momentum",) if turns_momentum else ())}
    rows: Rows = {}
    for name in dict.fromkeys(name for group in groups for name in group):
        if name in left_out:
            continue
        values = [group.get(name) for group in groups]
        if name == "lr":
            values = [group.get("initial_lr", value) for group, value in zip(groups, values, strict=True)]
        if name == "betas" and turns_momentum:  # the first of them is
            values = [group["betas"][1:] for group in groups]
        rows[name] = _one_if_equal([plain(value) for value in values])
    return rows


def scheduler_rows(place: str, config: SchedulerConfig) -> Rows:
    """Return the class and the arguments of a scheduler and of those within it, and when it steps."""
    rows: Rows = {}
    for where, scheduler in flattened(place, config.scheduler):
        rows[where] = type(scheduler).__qualname__
        rows |= below(where, scheduler_arguments(scheduler))
    when = {"every": config.every} if config.every else {"interval": config.interval, "frequency": config.frequency}
    return rows | below(place, {**when, "monitor": config.monitor})


def scheduler_arguments(scheduler: Any) -> Rows:
    """Return the arguments of one scheduler, without those within it."""
    if isinstance(scheduler, OneCycleLR):
        return _of_one_cycle(scheduler)
    rows = arguments_in(type(scheduler), vars_of(scheduler))
    if isinstance(scheduler, CyclicLR):
        up = scheduler.total_size * scheduler.step_ratio
        sizes = {"step_size_up": _rounded(up), "step_size_down": _rounded(scheduler.total_size - up)}
        rows |= {name: int(size) if size.is_integer() else size for name, size in sizes.items()}
    return rows


def flattened(place: str, scheduler: Any) -> Iterator[tuple[str, Any]]:
    """Yield a scheduler and those within it, each with its name."""
    yield place, scheduler
    for index, part in enumerate(getattr(scheduler, "_schedulers", ())):
        yield from flattened(f"{place}[{index}]", part)


def arguments_in(cls: type, attributes: Mapping[str, Any]) -> Rows:
    """Return the arguments of a class's constructor that are among the attributes of an object, or of its state."""
    found = attributes_of_arguments(cls, attributes)
    rows: Rows = {}
    for name, attribute in found.items():
        with suppress(RecursionError):  # what contains itself
            rows[name] = plain(attributes[attribute])
    # "max_lrs" for "max_lr": torch has made a list of it, with an item for each group.
    return {name: _one_if_equal(value) if found[name] == f"{name}s" else value for name, value in rows.items()}


def attributes_of_arguments(cls: type, attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes in which arguments of a constructor are kept, by the argument."""
    candidates = {name: (name, f"{name}s", f"_{name}") for name in _parameters(cls)}
    found = {name: next((each for each in names if each in attributes), None) for name, names in candidates.items()}
    return {name: attribute for name, attribute in found.items() if attribute is not None}


def plain(value: Any) -> Any:
    """Return a copy of ``value`` in plain types, as far as there are such."""
    if isinstance(value, Tensor):
        return value.tolist() if value.numel() <= _MOST_NUMBERS else value.detach().cpu().clone()
    if isinstance(value, Counter):  # milestones
        return sorted(value.elements())
    if type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    if has_state(value):
        return {name: plain(item) for name, item in vars(value).items() if not has_state(item)}
    return value


def has_state(value: Any) -> bool:
    """Whether a value is a callable object, as may be given to `LambdaLR`, which saves its attributes."""
    return callable(value) and not isinstance(value, _WITHOUT_STATE) and hasattr(value, "__dict__")


def vars_of(owner: object) -> Mapping[str, Any]:
    """Return the attributes of an object; none of one that has only slots."""
    return getattr(owner, "__dict__", {})


def names_of(kind: str, count: int) -> list[str]:
    """Return the names of ``count`` optimizers or schedulers: ``optimizer``, or ``optimizers[0]`` and so on."""
    return [kind] if count == 1 else [f"{kind}s[{index}]" for index in range(count)]


def below(place: str, rows: Rows) -> Rows:
    """Return ``rows`` with the name of what they belong to before each name."""
    return {f"{place}.{name}": value for name, value in rows.items()}


@functools.cache  # inspecting a signature costs more than all else here
def _parameters(cls: type) -> tuple[str, ...]:
    """Return the names of the arguments with which a class, or one that it inherits from, is made."""
    names: dict[str, None] = {}
    for base in cls.__mro__:
        init = vars(base).get("__init__")
        if isinstance(init, FunctionType):
            names |= dict.fromkeys(inspect.signature(init).parameters)
    return tuple(name for name in names if name not in (*_NOT_TOLD, "args", "kwargs"))


def _of_one_cycle(scheduler: OneCycleLR) -> Rows:
    # torch keeps some of its arguments only in what it makes of them.
    state, groups = scheduler.state_dict(), scheduler.optimizer.param_groups
    phases = state["_schedule_phases"]
    rows: Rows = {
        "total_steps": scheduler.total_steps,
        "pct_start": _rounded((phases[0]["end_step"] + 1) / scheduler.total_steps),
        "anneal_strategy": state["_anneal_func_type"],
        "three_phase": len(phases) == 3,
        "cycle_momentum": scheduler.cycle_momentum,
        "max_lr": _one_if_equal([plain(group["max_lr"]) for group in groups]),
        "div_factor": _quotient(plain(groups[0]["max_lr"]), plain(groups[0]["initial_lr"])),
        "final_div_factor": _quotient(plain(groups[0]["initial_lr"]), plain(groups[0]["min_lr"])),
    }
    if scheduler.cycle_momentum:
        for name in ("base_momentum", "max_momentum"):
            rows[name] = _one_if_equal([group[name] for group in groups])
    return rows


def _quotient(value: float, divisor: float) -> float:
    return _rounded(value / divisor) if divisor else math.inf


def _rounded(value: float) -> float:
    # What was divided and multiplied is off in the last digits.
    return float(f"{value:.12g}")


def _one_if_equal(values: Any) -> Any:
    return (
        values[0] if isinstance(values, list) and values and all(same(values[0], each) for each in values) else values
    )
