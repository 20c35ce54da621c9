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


def group_of_rank(ranks: Sequence[dict[str, Any]], number: int, module: nn.Module) -> dict[str, Any] | None:
    """Return the group with which a rank goes on that was number ``number`` of ``ranks``."""
    group: dict[str, Any] | None = ranks[number]["group"]
    if group is None:
        return None
    groups = [each["group"] or {} for each in ranks]
    gradients = [(groups[each.get(OF_RANK, rank)]).get("gradients", {}) for rank, each in enumerate(groups)]
    if not any(map(is_sharded, module.parameters())):
        return {**group, "gradients": gradients[number]}
    # Each backward of a sharded module averages: what ranks had gathered alone is averaged now.
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
