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


def made_rates(optimizer: Optimizer) -> list[Tensor | float | None]:
    """Return what the newest step has made of the rate of each group; None where an optimizer does not note that."""
    # schedulefree does, which warms up by itself: 0 ahead of the first step.
    return [_number(group.get("scheduled_lr")) for group in optimizer.param_groups]


def rates_of(optimizer: Optimizer) -> list[Tensor | float | None]:
    """Return the rate of each parameter group: what the newest step has made of it, or else what was set."""
    pairs = zip(set_rates(optimizer), made_rates(optimizer), strict=True)
    return [rate if made is None or rate is None else made for rate, made in pairs]


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
    return [name for names in _named(optimizers, configs).values() for name in names if name is not None]


def shown_rates(
    optimizers: Sequence[Optimizer],
    configs: Iterable[SchedulerConfig],
    rates: Sequence[Sequence[Tensor | float | None]] | None = None,
) -> dict[str, Tensor | float]:
    """Return the rates by their short names, few enough to be read at a glance.

    Where those of all groups of an optimizer are equal they are one, ``lr`` or ``lr/Muon``; more than `MOST_SHOWN` are
    two, ``lr min`` and ``lr max``.

    Args:
        optimizers: The optimizers.
        configs: Their schedulers.
        rates: Other rates in place of those that the optimizers have now, by optimizer and group.
    """
    rates = rates or [rates_of(optimizer) for optimizer in optimizers]
    # One in a device's memory is read by whoever shows it, without waiting: it cannot be compared here.
    are_here = not any(isinstance(rate, Tensor) and rate.device.type != "cpu" for own in rates for rate in own)
    shown: dict[str, Tensor | float] = {}
    # Groups may have been added since other rates were noted.
    for (root, names), own in zip(_named(optimizers, configs).items(), rates, strict=False):
        named = {name: rate for name, rate in zip(names, own, strict=False) if name is not None and rate is not None}
        if are_here and len(named) > 1 and len(set(map(float, named.values()))) == 1:
            named = {root: next(iter(named.values()))}
        shown |= named
    if are_here and len(shown) > MOST_SHOWN:
        return {"lr min": float(min(shown.values())), "lr max": float(max(shown.values()))}
    return shown


def _named(optimizers: Sequence[Optimizer], configs: Iterable[SchedulerConfig]) -> dict[str, list[str | None]]:
    """Return the names of the rates of each optimizer, by the name of the optimizer's own; None for a group without."""
    given = {id(getattr(config.scheduler, "optimizer", None)): config.name for config in configs if config.name}
    roots, names = Counter[str](), Counter[str]()
    result: dict[str, list[str | None]] = {}
    for optimizer in optimizers:
        own = "lr" if len(optimizers) == 1 else f"lr/{type(optimizer).__name__}"
        root = numbered(given.get(id(optimizer)) or own, roots)
        groups = zip(group_names(optimizer), set_rates(optimizer), strict=True)
        result[root] = [
            None if rate is None else numbered(f"{root}/{group}" if group else root, names) for group, rate in groups
        ]
    return result
