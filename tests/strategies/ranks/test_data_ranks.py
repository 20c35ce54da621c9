"""Ranks that compute one batch together count as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from trainkit.strategies import SingleDevice
from trainkit.strategies.ranks.data_ranks import DataRanks


class Paired(SingleDevice):
    """Four ranks that all say the same, of which two each have one batch."""

    world_size = 4

    @property
    def data_world_size(self) -> int:
        return 2

    def one_of_each_data(self, values: Sequence[Any]) -> list[Any]:
        return list(values[::2])

    def all_reduce(self, tensor: torch.Tensor, op: Any = "sum") -> torch.Tensor:
        return tensor * 4 if op == "sum" else tensor

    def all_gather_object(self, value: Any) -> list[Any]:
        return [(value, rank) for rank in range(4)]


def test_a_sum_counts_each_batch_once():
    ranks = DataRanks(Paired("cpu"))
    assert ranks.world_size == 2
    assert ranks.all_reduce(torch.tensor(3.0)) == 6
    assert ranks.all_reduce(torch.tensor(3.0), "max") == 3
    assert ranks.all_gather_object("a") == [("a", 0), ("a", 2)]
