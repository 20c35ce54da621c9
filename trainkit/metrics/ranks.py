"""Reducing the values of a phase over ranks: totals and weights are reduced, and divided once.

A mean of the ranks' means would be wrong where ranks have different numbers of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from trainkit.metrics.options import ReduceFx
from trainkit.metrics.running import Running, widest
from trainkit.types import ReduceOp

Totals: TypeAlias = tuple[float, float]
"""The total of a name on one rank, and its weight."""


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


def totals_of(runnings: Sequence[Running]) -> list[Totals]:
    """Return total and weight of each, as they are sent. Waits for the device, once for all that are on one."""
    totals = [running.total for running in runnings]
    tensors = [total for total in totals if isinstance(total, Tensor)]
    devices = dict.fromkeys(total.device for total in tensors)
    read = {
        id(total): number
        for device in devices
        for here in [[total for total in tensors if total.device == device]]
        for total, number in zip(here, torch.stack([each.to(widest(device)) for each in here]).tolist(), strict=True)
    }
    return [
        (read[id(total)] if isinstance(total, Tensor) else total, running.weight)
        for total, running in zip(totals, runnings, strict=True)
    ]


def reduce_over_ranks(
    reductions: Sequence[ReduceFx], ranks: Sequence[Sequence[Totals | None]], device: torch.device
) -> list[Tensor]:
    """Return the values over all ranks, as tensors of shape () on ``device``.

    >>> import torch
    >>> ranks = [[(6, 3), (2, 1)], [None, (5, 0)]]
    >>> [value.item() for value in reduce_over_ranks(["mean", "max"], ranks, torch.device("cpu"))]
    [2.0, 5.0]

    Args:
        reductions: How each name is reduced.
        ranks: What each rank has of each of these names; None where it has nothing.
        device: Where values are wanted.
    """
    values = [
        _reduced(how, [each for each in given if each is not None])
        for how, given in zip(reductions, ranks, strict=True)
    ]
    return list(torch.tensor(values, dtype=widest(device), device=device))


def _reduced(how: ReduceFx, given: Sequence[Totals]) -> float:
    totals = torch.tensor([total for total, _ in given], dtype=torch.float64)
    if how in ("min", "max"):
        return float(totals.amin() if how == "min" else totals.amax())  # which keep a NaN
    weights = torch.tensor([weight for _, weight in given], dtype=torch.float64)
    return float(totals.sum() / weights.sum() if how == "mean" else totals.sum())
