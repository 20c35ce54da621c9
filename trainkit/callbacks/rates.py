"""The learning rates of a fit and what they are called where there is little room: in a bar, beside a curve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from trainkit.module.optimizers import SchedulerConfig

MOST_SHOWN = 3
"""Of more rates, those that are not equal, the lowest and the highest are shown."""


def group_names(optimizer: Optimizer) -> list[str]:
    """Return the ``name`` of each parameter group, or ``pg1`` and so on; nothing for a single one without a name."""
    groups: list[dict[str, Any]] = optimizer.param_groups
    if len(groups) == 1:
        return [groups[0].get("name") or ""]
    return [group.get("name") or f"pg{index}" for index, group in enumerate(groups, start=1)]


def numbered(name: str, seen: Counter[str]) -> str:
    """Return ``name``, with a number where it was ``seen`` before, and count it."""
    before = seen[name]
    seen[name] += 1
    return f"{name}-{before}" if before else name


def set_rates(optimizer: Optimizer) -> list[Tensor | float | None]:
    """Return the rate that each parameter group is given; None for one that has none: a step may find its own."""
    return [_number(group.get("lr")) for group in optimizer.param_groups]


def rates_of(optimizer: Optimizer) -> list[Tensor | float | None]:
    """Return the rate of each parameter group, as `set_rates` does; of one that warms up by itself, the newest used."""
    # schedulefree notes there what a step has made of "lr": none was used before the first one.
    used = (_number(group.get("scheduled_lr")) for group in optimizer.param_groups)
    return [rate if one is None or rate is None else one for rate, one in zip(set_rates(optimizer), used, strict=True)]


def _number(rate: Any) -> Tensor | float | None:
    return rate if isinstance(rate, Tensor) else float(rate) if isinstance(rate, Real) else None


def short_names(optimizers: Sequence[Optimizer], configs: Iterable[SchedulerConfig]) -> list[str]:
    """Return a name for the rate of each parameter group of ``optimizers`` that has one, no two alike.

    ============================  ==============================
    one optimizer, one group      ``lr``
    one optimizer, groups         ``lr/decay``, ``lr/pg2``
    several optimizers            ``lr/Muon``, ``lr/AdamW/pg1``
    a scheduler with a ``name``   that, in place of ``lr/Muon``
    ============================  ==============================

    Args:
        optimizers: The optimizers.
        configs: Their schedulers.
    """
    given = {id(getattr(config.scheduler, "optimizer", None)): config.name for config in configs if config.name}
    roots, names = Counter[str](), Counter[str]()
    result = []
    for optimizer in optimizers:
        own = "lr" if len(optimizers) == 1 else f"lr/{type(optimizer).__name__}"
        root = numbered(given.get(id(optimizer)) or own, roots)
        groups = zip(group_names(optimizer), rates_of(optimizer), strict=True)
        result += [numbered(f"{root}/{group}" if group else root, names) for group, rate in groups if rate is not None]
    return result


def shown_rates(optimizers: Sequence[Optimizer], configs: Iterable[SchedulerConfig]) -> dict[str, Tensor | float]:
    """Return the rates by their short names, few enough to be read at a glance.

    Where all are equal they are one, ``lr``; more than `MOST_SHOWN` are two, ``lr min`` and ``lr max``.

    Args:
        optimizers: The optimizers.
        configs: Their schedulers.
    """
    rates = [rate for optimizer in optimizers for rate in rates_of(optimizer) if rate is not None]
    # One in a device's memory is read by whoever shows it, without waiting: it cannot be compared here.
    are_here = not any(isinstance(rate, Tensor) and rate.device.type != "cpu" for rate in rates)
    if are_here and len(rates) > 1 and len(set(map(float, rates))) == 1:
        return {"lr": rates[0]}
    if are_here and len(rates) > MOST_SHOWN:
        return {"lr min": float(min(rates)), "lr max": float(max(rates))}
    return dict(zip(short_names(optimizers, configs), rates, strict=True))
