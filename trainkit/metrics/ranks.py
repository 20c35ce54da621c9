"""Reducing the values of a phase over ranks: totals and weights are reduced, and divided once.

A mean of the ranks' means would be wrong where ranks have different numbers of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from trainkit.metrics.running import Running, widest
from trainkit.types import ReduceOp

# A mean needs no operation of its own: its total and its weight are both sums.
_OPERATIONS: dict[ReduceOp, tuple[str, ...]] = {"sum": ("mean", "sum"), "min": ("min",), "max": ("max",)}


class Ranks(Protocol):
    """The collectives that metrics need. A `Strategy` has them; it is a layer above, and cannot be imported here."""

    @property
    def device(self) -> torch.device:
        """The device on which this rank computes."""

    @property
    def world_size(self) -> int:
        """How many ranks there are."""

    def all_reduce(self, tensor: Tensor, op: ReduceOp = "sum") -> Tensor:
        """Return ``tensor`` reduced over all ranks."""

    def all_gather_object(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in the order of ranks."""


def reduce_over_ranks(runnings: Sequence[Running], ranks: Ranks) -> list[Tensor]:
    """Return the value of each of ``runnings`` over all ranks.

    One collective for all means and sums, one for minima, one for maxima. Every rank must pass equally many, in the
    same order. A rank that added nothing to one of them does not change the result.

    Returns:
        Tensors of shape (), equal on every rank.
    """
    values: dict[int, Tensor] = {}
    for operation, reductions in _OPERATIONS.items():
        chosen = [index for index, running in enumerate(runnings) if running.reduce_fx in reductions]
        if chosen:
            reduced = ranks.all_reduce(_table([runnings[index] for index in chosen], ranks.device), operation)
            for index, (total, weight) in zip(chosen, reduced, strict=True):
                values[index] = runnings[index].finish(total, weight)
    return [values[index] for index in range(len(runnings))]


def _table(runnings: Sequence[Running], device: torch.device) -> Tensor:
    """Return total and weight of each; shape (names, 2), float64 where the device has it."""
    # One dtype for all: ranks may hold numbers here and tensors there, and a collective needs the same on every rank.
    dtype = widest(device)
    totals = torch.stack([torch.as_tensor(running.total, dtype=dtype, device=device) for running in runnings])
    weights = torch.tensor([running.weight for running in runnings], dtype=dtype, device=device)
    return torch.stack((totals, weights), dim=1)
