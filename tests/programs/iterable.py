"""A stream without length: steps instead of epochs, validation every so many batches, wall-clock limit."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import trainkit.compat.lightning as pl
from trainkit.compat.lightning.callbacks import ModelCheckpoint


class Stream(IterableDataset):
    def __init__(self, seed, samples=10_000):
        self.seed, self.samples = seed, samples

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed)
        weights = torch.linspace(-1, 1, 8)
        for _ in range(self.samples):
            x = torch.randn(8, generator=generator)
            yield x, (x @ weights + 0.1 * torch.randn((), generator=generator)).view(1)


class Regression(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 1)
        self.validated_at = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.mse_loss(self.linear(x), y)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val/loss", nn.functional.mse_loss(self.linear(x), y))

    def on_validation_start(self):
        if not self.trainer.sanity_checking:
            self.validated_at.append(self.global_step)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": scheduler, "monitor": "train/loss"}


def main(root):
    pl.seed_everything(4)
    checkpoint = ModelCheckpoint(root / "saved", monitor="val/loss", save_top_k=2, every_n_train_steps=20)
    model = Regression()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=60,
        max_time={"minutes": 5},
        val_check_interval=20,
        limit_val_batches=3,
        check_val_every_n_epoch=None,
        callbacks=[checkpoint],
        default_root_dir=root,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(Stream(1), batch_size=16), DataLoader(Stream(2, 300), batch_size=16))
    assert trainer.num_training_batches == float("inf")
    assert model.validated_at == [20, 40, 60]
    return {
        "steps": trainer.global_step,
        "train": trainer.callback_metrics["train/loss"].item(),
        "val": trainer.callback_metrics["val/loss"].item(),
        "saved": len(list((root / "saved").glob("*.ckpt"))),
        "error": (model.linear.weight - torch.linspace(-1, 1, 8)).abs().max().item(),
    }
