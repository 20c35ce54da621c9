"""The gradients of an open accumulation group, which a rank has alone, or of which each rank has a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from trainkit.module.shards import is_sharded
from trainkit.strategies.base import Strategy

OF_RANK = "gradients_of"
"""In the group of a rank: whose gradients it goes on with. Sharded ones are equal on all ranks, and stored once."""


def without_shared(group: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the group of this rank without gradients of which each rank has a part: they go to that of rank 0."""
    if group is None or not any(map(is_sharded, group["gradients"].values())):
        return group
    return {**group, "gradients": {}, OF_RANK: 0}


def add_shared(ranks: Sequence[dict[str, Any]], group: dict[str, Any] | None, strategy: Strategy) -> None:
    """Give rank 0 of ``ranks`` the gradients that `without_shared` has left out. Every rank has to call this.

    Args:
        ranks: The states of all ranks.
        group: The group of this rank, with gradients.
        strategy: Tells in which form they are stored.
    """
    if group is not None and any(map(is_sharded, group["gradients"].values())):
        ranks[0]["group"]["gradients"] = strategy.stored(group["gradients"])


def groups_of_ranks(ranks: Sequence[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """Return the groups of all ranks, each with its gradients, wherever these are stored."""
    groups = [each["group"] for each in ranks]
    return [
        None if group is None else {**group, "gradients": (groups[group.get(OF_RANK, rank)] or {}).get("gradients", {})}
        for rank, group in enumerate(groups)
    ]


def group_of_rank(groups: Sequence[dict[str, Any] | None], number: int, module: nn.Module) -> dict[str, Any] | None:
    """Return the group with which the rank goes on that had number ``number`` of ``groups``, those of all ranks."""
    group = groups[number]
    if group is None or not any(map(is_sharded, module.parameters())):
        return group
    # Each backward of a sharded module averages: what ranks had gathered alone is averaged now.
    gradients = [{} if each is None else each["gradients"] for each in groups]
    names = dict.fromkeys(name for each in gradients for name in each)
    return {**group, "gradients": {name: _mean([each.get(name) for each in gradients]) for name in names}}


def _mean(gradients: Sequence[Tensor | None]) -> Tensor:
    first, *others = [each for each in gradients if each is not None]
    if len(others) + 1 == len(gradients) and all(each is first for each in others):
        return first
    total = first.clone()
    for each in others:
        total += each
    return total / len(gradients)
