"""Whole fits on however many ranks there are: ``torchrun ddp_fit.py FOLDER`` writes ``FOLDER/fit_N.pt`` on rank N.

A global batch has the same samples whatever the number of ranks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.strategies.regression import Regression, make_batch
from trainkit import Trainer
from trainkit.data import TensorLoader
from trainkit.errors import ModuleError

GLOBAL_BATCH = 12


class Fitted(Regression):
    """Logs in training and validation, and has a scheduler."""

    def training_step(self, batch: Any, batch_idx: int = 0) -> Any:
        loss = super().training_step(batch)
        self.log("train/loss", loss, on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val/loss", torch.nn.functional.mse_loss(self(x), y))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2), "interval": "step"}]


class Manual(Fitted):
    """Does backward and its steps itself."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int = 0) -> None:
        optimizer = self.optimizers()
        loss = super().training_step(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


class Raw(Manual):
    """Calls ``step`` of the optimizer itself, at a learning rate that is 0 at first."""

    def training_step(self, batch: Any, batch_idx: int = 0) -> None:
        (optimizer,) = self.trainer.optimizers
        optimizer.param_groups[0]["lr"] = 0.01 * batch_idx
        optimizer.zero_grad()
        self.backpropagate(Regression.training_step(self, batch))
        optimizer.step()

    def backpropagate(self, loss: torch.Tensor) -> None:
        loss.backward()


class RawExchanging(Raw):
    """Has the gradients averaged itself."""

    def backpropagate(self, loss: torch.Tensor) -> None:
        loss.backward()
        self.trainer.strategy.sync_gradients(self)


class RawStep(Raw):
    """Has them averaged by ``manual_backward``."""

    def backpropagate(self, loss: torch.Tensor) -> None:
        self.manual_backward(loss)


class Clipped(Manual):
    """Clips what all ranks have averaged."""

    def manual_backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        super().manual_backward(loss)
        self.clip_gradients(self.optimizers(), gradient_clip_val=0.1)


class Weighted(Fitted):
    """Returns a sum and its weight, which differs between ranks."""

    def training_step(self, batch: Any, batch_idx: int = 0) -> Any:
        x, y = batch
        counts = x[:, 0] > 0
        return {
            "loss": torch.nn.functional.mse_loss(self(x)[counts], y[counts], reduction="sum"),
            "weight": counts.sum(),
        }


class Tight(Fitted):
    """Runs out of memory with more than two samples, on the last rank only."""

    def training_step(self, batch: Any, batch_idx: int = 0) -> Any:
        loss = super().training_step(batch)
        if len(batch[0]) > 2 and self.trainer.global_rank == self.trainer.world_size - 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.batches.zero_()  # it counts parts, of which smaller batches have fewer
        return loss


class Thawing(Fitted):
    """Trains its second layer first, from the second epoch on both, and at the end the first one alone."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.inner.requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        self.inner.requires_grad_(self.current_epoch > 0)

    def on_train_batch_start(self, batch_idx: int) -> None:
        if self.current_epoch == 1 and batch_idx == 3:
            self.outer.requires_grad_(False)


def data_loader(x: torch.Tensor, y: torch.Tensor, **options: Any) -> Any:
    return DataLoader(TensorDataset(x, y), **options)


def fit(module: Fitted, make_loader: Any = data_loader, **arguments: Any) -> dict[str, Any]:
    trainer = Trainer(
        **arguments,
        accelerator="cpu",
        strategy="ddp",
        max_epochs=2,
        num_sanity_val_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    val_loader = make_loader(*make_batch(11, seed=2), batch_size=2)
    train_loader = make_loader(*make_batch(4 * GLOBAL_BATCH), batch_size=GLOBAL_BATCH // trainer.world_size)
    trainer.fit(module, train_loader, val_loader)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    # A second call takes the strategy up again. 11 samples cannot be dealt evenly.
    return {
        "weights": module.state_dict(),
        "global_step": trainer.global_step,
        "logged": logged,
        "validated": trainer.validate(module, val_loader, verbose=False),
    }


def fit_everything() -> dict[str, dict[str, Any]]:
    return {
        "plain": fit(Fitted()),
        "accumulated": fit(Fitted(), accumulate_grad_batches=3),
        "weighted": fit(Weighted(), accumulate_grad_batches=2),
        "manual": fit(Manual()),
        "clipped by hand": fit(Clipped()),
        "raw": fit(RawExchanging()),
        "raw step": fit(RawStep()),
        "thawing": fit(Thawing()),
        "thawing and accumulated": fit(Thawing(), accumulate_grad_batches=4),
        "split": fit(Tight(), accumulate_grad_batches="auto"),
        "tensors": fit(Fitted(), make_loader=TensorLoader),
    }


def drifting() -> str:
    """Return with what a fit ends whose ranks drift apart."""
    try:
        fit(Raw())
    except ModuleError as error:
        return str(error)
    return "they drifted"


def main(folder: Path) -> None:
    torch.save(fit_everything() | {"drifting": drifting()}, folder / f"fit_{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
