"""A classifier of handwritten digits: two linear layers."""

from __future__ import annotations

import torch
from torch import Tensor

import trainkit as tk


class Digits(tk.TrainModule):
    """A multi-layer perceptron for images of 8 x 8 pixels.

    Args:
        hidden: Width of the hidden layer.
        lr: Learning rate of Adam.
    """

    def __init__(self, hidden: int = 64, lr: float = 1e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = torch.nn.functional.cross_entropy(self.net(x), y)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._log_quality("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._log_quality("test", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)

    def _log_quality(self, split: str, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        logits = self.net(x)
        self.log(f"{split}/loss", torch.nn.functional.cross_entropy(logits, y))
        self.log(f"{split}/accuracy", (logits.argmax(dim=1) == y).float().mean(), prog_bar=True)
