"""The ranks as metrics see them: those that compute one batch together count as one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainkit.strategies.base import Strategy
from trainkit.types import ReduceOp


class DataRanks:
    """The collectives of a strategy, over one rank for each of the different data.

    Args:
        strategy: Has them.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy

    @property
    def device(self) -> torch.device:
        """The device on which this rank computes."""
        return self._strategy.device

    @property
    def world_size(self) -> int:
        """How many ranks have different data."""
        return self._strategy.data_world_size

    def all_reduce(self, tensor: Tensor, op: ReduceOp = "sum") -> Tensor:
        """Return ``tensor`` reduced over ranks of different data. Every rank has to call this."""
        reduced = self._strategy.all_reduce(tensor, op)
        copies = self._strategy.world_size // self._strategy.data_world_size
        return reduced / copies if op == "sum" and copies > 1 else reduced

    def all_gather_object(self, value: Any) -> list[Any]:
        """Return the values of ranks of different data. Every rank has to call this."""
        return self._strategy.one_of_each_data(self._strategy.all_gather_object(value))
