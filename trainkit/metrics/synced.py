"""torchmetrics objects over all ranks: their states are sent with all else that a phase exchanges at its end.

By itself each object exchanges each of its states, and a rank that has no samples may take part with another dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.metrics.torchmetrics import Metric, is_metric, num_updates

States = dict[str, tuple[int, dict[str, Any]]]
"""Of an object and those that it is made of, by their places in it: the number of updates, and what it holds."""


def states_to_send(metric: Metric) -> States:
    """Return what ``metric`` holds, on the CPU, as far as it would exchange it by torchmetrics' own way."""
    return {place: (num_updates(member), _states_of(member)) for place, member in _members(metric)}


@contextmanager
def synced(metric: Metric, ranks: Sequence[States]) -> Iterator[None]:
    """Return a context in which ``metric.compute()`` goes by the states of all ``ranks``, and exchanges nothing.

    Objects that exchange in a way of their own still do.
    """
    members = _members(metric)
    for place, member in members:
        # Where torchmetrics would exchange: it keeps the states of this rank before, and puts them back afterwards.
        member.__dict__["_sync_dist"] = partial(_merge, member, [states[place] for states in ranks if place in states])
    count = metric._update_count
    try:
        metric._update_count = max(count, 1)  # a rank without samples is no mistake, of which compute() would warn
        yield
    finally:
        metric._update_count = count
        for _, member in members:
            del member.__dict__["_sync_dist"]


@contextmanager
def alone(metric: Metric) -> Iterator[None]:
    """Return a context in which ``metric.compute()`` goes by what this rank has."""
    members = _members(metric)
    for _, member in members:
        member._to_sync = False
    try:
        yield
    finally:
        for _, member in members:
            member._to_sync = True


def _members(metric: Any) -> list[tuple[str, Any]]:
    """Return ``metric`` and the objects that it is made of, by their places in it, as far as they exchange as usual."""
    modules = metric.named_modules() if isinstance(metric, nn.Module) else [("", metric)]
    return [(place, member) for place, member in modules if is_metric(member) and _syncs_as_usual(member)]


def _syncs_as_usual(metric: Any) -> bool:
    from torchmetrics import Metric as Base

    has_own_way = metric.dist_sync_fn is not None or metric.process_group is not None
    return type(metric)._sync_dist is Base._sync_dist and metric._to_sync and not has_own_way


def _states_of(metric: Any) -> dict[str, Any]:
    from torchmetrics.utilities.data import dim_zero_cat

    states = {}
    for name, reduction in metric._reductions.items():
        state = getattr(metric, name)
        if isinstance(state, list):
            # One tensor is sent faster than many.
            state = [dim_zero_cat(state)] if reduction is dim_zero_cat and len(state) > 1 else state
            states[name] = [each.detach().cpu() for each in state]
        else:
            states[name] = state.detach().cpu()
    return states


def _merge(metric: Any, told: Sequence[tuple[int, dict[str, Any]]], *_: Any, **__: Any) -> None:
    """Let ``metric`` hold the states of all ranks, reduced as its author has declared."""
    # A rank without samples has what it began with, which would count in a mean of states.
    ranks = [states for updates, states in told if updates] or [states for _, states in told]
    for name, reduction in metric._reductions.items():
        parts = [states[name] for states in ranks]
        if isinstance(parts[0], list):
            joined: Any = [_on_device(each, metric) for each in chain.from_iterable(parts)]
            if not joined:
                setattr(metric, name, [])
                continue
        else:
            joined = torch.stack([_on_device(each, metric) for each in parts])
        setattr(metric, name, joined if reduction is None else reduction(joined))


def _on_device(state: Tensor, metric: Any) -> Tensor:
    return state.to(metric.device)
