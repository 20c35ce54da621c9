"""The module and the batches with which strategies are compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainkit.module import TrainModule


class Regression(TrainModule):
    """Two layers, one of them used twice, a buffer that counts batches, and a loss that is a mean over samples."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.inner = nn.Linear(4, 4)
            self.outer = nn.Linear(4, 2)
        self.tied = self.inner
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.tied(self.inner(x).tanh()))

    def training_step(self, batch: Any, batch_idx: int = 0) -> Any:
        x, y = batch
        self.batches += 1
        return nn.functional.mse_loss(self(x), y)


def make_batch(samples: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 4, generator=generator), torch.randn(samples, 2, generator=generator)


def gradients(module: nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in module.named_parameters()}
