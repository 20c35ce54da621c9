"""Several loaders: labelled and unlabelled data in one training batch, two validation sets."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

import trainkit.compat.lightning as pl
from tests.programs.digits import loader
from trainkit.compat.lightning.utilities import CombinedLoader


class SemiSupervised(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(64, 16)
        self.classify = nn.Linear(16, 10)
        self.reconstruct = nn.Linear(16, 64)
        self.shapes = set()

    def training_step(self, batch, batch_idx):
        x, y = batch["labelled"]
        u, _ = batch["unlabelled"]
        self.shapes.add((len(x), len(u)))
        supervised = F.cross_entropy(self.classify(self.encoder(x).relu()), y)
        unsupervised = F.mse_loss(self.reconstruct(self.encoder(u).relu()), u)
        self.log_dict({"supervised": supervised, "unsupervised": unsupervised}, batch_size=len(x))
        return supervised + unsupervised

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = batch
        accuracy = (self.classify(self.encoder(x).relu()).argmax(1) == y).float().mean()
        self.log("accuracy", accuracy)
        self.log(f"accuracy_of_set_{dataloader_idx}", accuracy, add_dataloader_idx=False)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)

    def train_dataloader(self):
        loaders = {"labelled": loader(0, 100, batch_size=25), "unlabelled": loader(100, 500, batch_size=40)}
        return CombinedLoader(loaders, mode="max_size_cycle")

    def val_dataloader(self):
        return [loader(600, 700), loader(700, 760, batch_size=7)]


def main(root):
    pl.seed_everything(1)
    model = SemiSupervised()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        default_root_dir=root,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model)
    assert trainer.num_training_batches == 10 and trainer.num_val_batches == [2, 9]
    assert model.shapes == {(25, 40)}
    first, second = trainer.validate(model, verbose=False)
    return {**first, **second, "steps": trainer.global_step}
