"""A loop of metrics: torchmetrics collections for training, validation and test."""

from __future__ import annotations

import torch
import torchmetrics
from torch import nn

import trainkit.compat.lightning as pl
from tests.programs.digits import loader


class MeasuredClassifier(pl.LightningModule):
    def __init__(self, num_classes=10):
        super().__init__()
        self.net = nn.Linear(64, num_classes)
        metrics = torchmetrics.MetricCollection(
            {
                "acc": torchmetrics.Accuracy(task="multiclass", num_classes=num_classes),
                "f1": torchmetrics.F1Score(task="multiclass", num_classes=num_classes, average="macro"),
            }
        )
        self.train_metrics = metrics.clone(prefix="train/")
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")
        self.mean_loss = torchmetrics.MeanMetric()
        self.history = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self.net(x)
        self.log_dict(self.train_metrics(logits, y), on_step=True, on_epoch=False)
        loss = nn.functional.cross_entropy(logits, y)
        self.mean_loss(loss, len(y))
        self.log("train/mean_loss", self.mean_loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.val_metrics.update(self.net(x), y)

    def on_validation_epoch_end(self):
        values = self.val_metrics.compute()
        self.log_dict(values)
        self.val_metrics.reset()
        if not self.trainer.sanity_checking:
            self.history.append(values["val/acc"].item())

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.test_metrics(self.net(x), y)
        self.log_dict(self.test_metrics)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)


def main(root):
    pl.seed_everything(6)
    model = MeasuredClassifier()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        default_root_dir=root,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader(shuffle=True), loader(600, 750, batch_size=40))
    fitted = {name: value.item() for name, value in trainer.callback_metrics.items()}
    (tested,) = trainer.test(model, loader(750, 1000, batch_size=64), verbose=False)
    assert len(model.history) == 3
    return {**fitted, **tested, "first": model.history[0]}
