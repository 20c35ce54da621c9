"""Transfer learning: a backbone learns the small digits, is frozen under a new head, and thawed later."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

import trainkit.compat.lightning as pl
from tests.programs.digits import digits


def of_labels(first, last, labels):
    data = digits(first, last)
    return Subset(data, [index for index, (_, label) in enumerate(data) if label in labels])


class Pretrained(pl.LightningModule):
    def __init__(self, width=32):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = nn.Sequential(nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU())
        self.head = nn.Linear(width, 5)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.head(self.backbone(x)), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class FineTuned(pl.LightningModule):
    def __init__(self, backbone, lr=1e-2):
        super().__init__()
        self.save_hyperparameters("lr")
        self.feature_extractor = backbone
        self.feature_extractor.requires_grad_(False)
        self.feature_extractor.eval()
        self.head = nn.Linear(32, 5)

    def training_step(self, batch, batch_idx):
        x, y = batch
        with torch.no_grad() if not self.is_thawed else torch.enable_grad():
            features = self.feature_extractor(x)
        loss = F.cross_entropy(self.head(features), y - 5)
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    @property
    def is_thawed(self):
        return next(self.feature_extractor.parameters()).requires_grad

    def configure_optimizers(self):
        return torch.optim.Adam(filter(lambda parameter: parameter.requires_grad, self.parameters()), self.hparams.lr)


class Thaw(pl.Callback):
    def __init__(self, epoch):
        self.epoch = epoch
        self.modes = []

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            pl_module.feature_extractor.requires_grad_(True)
            group = {"params": pl_module.feature_extractor.parameters(), "lr": 1e-3}
            trainer.optimizers[0].add_param_group(group)
        self.modes.append(pl_module.feature_extractor.training)


def main(root):
    pl.seed_everything(2)
    quiet = {
        "accelerator": "cpu",
        "default_root_dir": root,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    pretraining = pl.Trainer(max_epochs=3, **quiet)
    pretraining.fit(Pretrained(), DataLoader(of_labels(0, 500, range(5)), batch_size=25, shuffle=True))
    path = root / "pretrained.ckpt"
    pretraining.save_checkpoint(path)

    backbone = Pretrained.load_from_checkpoint(path).backbone
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    thaw = Thaw(epoch=2)
    trainer = pl.Trainer(max_epochs=2, callbacks=[thaw], enable_checkpointing=False, **quiet)
    model = FineTuned(backbone)
    data = DataLoader(of_labels(0, 500, range(5, 10)), batch_size=25, shuffle=True)
    trainer.fit(model, data)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    frozen_loss = trainer.callback_metrics["loss"].item()

    trainer = pl.Trainer(max_epochs=4, callbacks=[thaw], enable_checkpointing=False, **quiet)
    trainer.fit(model, data)
    assert not torch.equal(backbone[0].weight, before["0.weight"])
    assert thaw.modes == [False] * 6
    return {"frozen": frozen_loss, "thawed": trainer.callback_metrics["loss"].item(), "steps": trainer.global_step}
