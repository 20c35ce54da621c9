"""Logistic regression by LBFGS, which evaluates the loss several times per step."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

import trainkit.compat.lightning as pl
from tests.programs.digits import loader


class LogisticRegression(pl.LightningModule):
    def __init__(self, l2_strength: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.linear = nn.Linear(64, 10)
        self.evaluations = 0

    def forward(self, x):
        return self.linear(x)

    def training_step(self, batch, batch_idx):
        self.evaluations += 1
        x, y = batch
        loss = F.cross_entropy(self(x), y, reduction="sum")
        loss = (loss + self.hparams.l2_strength * self.linear.weight.pow(2).sum()) / x.size(0)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("accuracy", (self(x).argmax(-1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.5, max_iter=5)


def main(root):
    pl.seed_everything(9)
    model = LogisticRegression()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=4,
        default_root_dir=root,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader(batch_size=300), loader(600, 800))
    return {
        "accuracy": trainer.callback_metrics["accuracy"].item(),
        "evaluations": model.evaluations,
        "steps": trainer.global_step,
    }
