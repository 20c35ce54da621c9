"""An image classifier with a data module, early stopping, the best checkpoint, and a test on it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, random_split

import trainkit.compat.lightning as pl
from tests.programs.digits import digits
from trainkit.compat.lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from trainkit.compat.lightning.loggers import CSVLogger


class DigitsDataModule(pl.LightningDataModule):
    def __init__(self, batch_size: int = 32):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        if stage in (None, "fit"):
            everything = digits(0, 700)
            self.train_set, self.val_set = random_split(everything, [600, 100], torch.Generator().manual_seed(1))
        if stage in (None, "test"):
            self.test_set = digits(700, 900)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=self.hparams.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=self.hparams.batch_size)


class LitClassifier(pl.LightningModule):
    def __init__(self, hidden: int = 64, learning_rate: float = 5e-3):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, 10))

    def forward(self, x):
        return self.layers(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def _shared_eval(self, batch, prefix):
        x, y = batch
        logits = self(x)
        self.log(f"{prefix}_loss", F.cross_entropy(logits, y), prog_bar=True)
        self.log(f"{prefix}_acc", (logits.argmax(dim=1) == y).float().mean(), prog_bar=True)

    def validation_step(self, batch, batch_idx):
        self._shared_eval(batch, "val")

    def test_step(self, batch, batch_idx):
        self._shared_eval(batch, "test")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
        return [optimizer], [scheduler]


class EpochTimeline(pl.Callback):
    """What a user's own callback looks like."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_train_epoch_end(self, trainer, pl_module):
        super().on_train_epoch_end(trainer, pl_module)
        self.epochs.append((trainer.current_epoch, trainer.global_step, pl_module.hparams.hidden))


def main(root):
    pl.seed_everything(7, workers=True)
    timeline = EpochTimeline()
    checkpoint = ModelCheckpoint(monitor="val_loss", mode="min", filename="{epoch}-{val_loss:.2f}")
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=5,
        logger=CSVLogger(root, name="digits"),
        callbacks=[checkpoint, EarlyStopping("val_loss", patience=2), LearningRateMonitor("epoch"), timeline],
        log_every_n_steps=5,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model, data = LitClassifier(), DigitsDataModule()
    trainer.fit(model, datamodule=data)
    (tested,) = trainer.test(model, datamodule=data, ckpt_path="best", verbose=False)
    again = LitClassifier.load_from_checkpoint(checkpoint.best_model_path)
    assert timeline.epochs == [(epoch, 19 * (epoch + 1), 64) for epoch in range(trainer.current_epoch)]
    return {
        **tested,
        "val_loss": trainer.callback_metrics["test_loss"].item(),
        "best": checkpoint.best_model_score.item(),
        "hidden": again.hparams.hidden,
        "steps": trainer.global_step,
        "weights": sum(parameter.abs().sum().item() for parameter in again.parameters()),
    }
