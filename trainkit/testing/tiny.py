"""The smallest module, data and Trainer that make a run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainkit.module import TrainModule
from trainkit.trainer import Trainer


class TinyModule(TrainModule):
    """One linear layer with fixed initial weights, trained by SGD on the squared error. Each step logs its loss.

    Args:
        in_features: Size of an input.
        out_features: Size of a target.
        lr: Learning rate of the plain SGD.
        seed: Seed of the weights. The global random state stays as it is.
    """

    def __init__(self, in_features: int = 4, out_features: int = 2, lr: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        # On the CPU alone: by default `fork_rng` also saves and restores the generators of all GPUs.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layer = nn.Linear(in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Return the prediction for inputs of shape (batch, in_features)."""
        output: Tensor = self.layer(x)
        return output

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the loss of one batch. Needs no Trainer, so that a loop written by hand can call it."""
        x, y = batch
        return nn.functional.mse_loss(self(x), y)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        self.log("val/loss", self.loss(batch))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        self.log("test/loss", self.loss(batch))

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class TinyData(list[tuple[Tensor, Tensor]]):
    """A list of batches ``(x, y)`` that fit `TinyModule`, always the same for one seed.

    Args:
        num_batches: How many batches.
        batch_size: Samples in each.
        last_batch_size: Samples in the last one; by default as many as in the others.
        in_features: Size of an input.
        out_features: Size of a target.
        seed: Seed of the values. The global random state stays as it is.
    """

    def __init__(
        self,
        num_batches: int = 4,
        batch_size: int = 3,
        last_batch_size: int | None = None,
        *,
        in_features: int = 4,
        out_features: int = 2,
        seed: int = 0,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        sizes = [batch_size] * num_batches
        if last_batch_size is not None:
            sizes[-1] = last_batch_size
        super().__init__(
            (torch.randn(size, in_features, generator=generator), torch.randn(size, out_features, generator=generator))
            for size in sizes
        )


def quiet_trainer(**arguments: Any) -> Trainer:
    """Return a `Trainer` for one epoch on the CPU that prints nothing, writes nothing and skips the sanity check.

    Args:
        arguments: Further arguments of `Trainer`; they go before these defaults.
    """
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "num_sanity_val_steps": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**(quiet | arguments))
