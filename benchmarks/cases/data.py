"""What it costs to get batches of samples that are in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.cases.case import Budget, Case
from benchmarks.contenders import Contender
from benchmarks.figures import Clock, Comparison, Spent, compare
from benchmarks.job import Unsupported
from benchmarks.turns import WARM_UP


@dataclass(frozen=True, kw_only=True)
class FromMemory(Case):
    """Microseconds a batch of 256 shuffled samples of 64 numbers. By hand one takes a DataLoader."""

    unit: str = "us a batch"

    def measure(self, contender: Contender, turns: int) -> dict[Clock, Comparison]:
        make_loader = getattr(contender, "tensor_loader", None)
        if make_loader is None:
            raise Unsupported("no loader of its own for tensors in memory")
        tensors = torch.randn(25_600, 64), torch.randint(10, (25_600,))
        hand, theirs = Spent(), Spent()
        plain = DataLoader(TensorDataset(*tensors), batch_size=256, shuffle=True)
        loader = make_loader(*tensors, batch_size=256)
        for _ in range(turns + WARM_UP):
            _go_through(plain, hand)
            _go_through(loader, theirs)
        return compare(hand, theirs, per_second=1e6 / len(plain), warm_up=WARM_UP)


def _go_through(loader: Any, spent: Spent) -> None:
    spent.begin()
    for _ in loader:
        pass
    spent.end()


CASES: dict[str, Case] = {
    "data": FromMemory(title="shuffled batches of samples in memory", budget=Budget("ratio", 0.2), turns=20)
}
