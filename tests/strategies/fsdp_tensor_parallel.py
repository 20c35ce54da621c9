"""Fits whose batches several ranks compute together: ``python fsdp_tensor_parallel.py FOLDER TP`` on each rank."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from tests.strategies.fsdp_fit import Net, attempt, fit
from trainkit.strategies import FSDP


class Wide(nn.Module):
    """Two layers of which the first is dealt out by columns and the second by rows."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.up = nn.Linear(size, 8)
        self.down = nn.Linear(8, size)
        self.norm = nn.LayerNorm(size)
        self.drop = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.drop(self.down(self.up(x).tanh())))


class Parallel(Net):
    """Blocks that the ranks of ``tp`` compute together; alone where there is no mesh."""

    def build(self) -> None:
        super().build()
        self.blocks = nn.ModuleList([Wide(7) for _ in range(2)])
        self.is_parallel = False

    def configure_model(self) -> None:
        mesh = getattr(self.trainer.strategy, "device_mesh", None)
        if mesh is None or self.is_parallel:
            return
        self.is_parallel = True
        for block in self.blocks:
            parallelize_module(block, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})


def programs(strategy: Any) -> dict[str, Any]:
    """Return what comes of several fits."""
    return {
        "plain": attempt(lambda: fit(Parallel(), strategy())),
        "clipped": attempt(lambda: fit(Parallel(), strategy(), gradient_clip_val=0.05, accumulate_grad_batches=2)),
    }


def main(folder: Path, size: int) -> None:
    ranks = int(os.environ["WORLD_SIZE"])
    results = programs(lambda: FSDP(mesh={"dp": ranks // size, "tp": size}))
    torch.save(results, folder / f"tp_{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
