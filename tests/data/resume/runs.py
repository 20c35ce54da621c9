"""A run that draws random numbers in every step, and is saved after every batch."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from trainkit.testing import TinyModule, quiet_trainer

X = torch.randn(22, 4, generator=torch.Generator().manual_seed(0))
DATA = TensorDataset(X, X[:, :2].clone())


class Dropping(TinyModule):
    """Draws random numbers in every step, and notes what it is trained on."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.3)
        self.seen = []

    def forward(self, x):
        return self.layer(self.dropout(x))

    def training_step(self, batch, batch_idx):
        batches = [batch] if isinstance(batch[0], torch.Tensor) else batch
        self.seen.append((self.current_epoch, batch_idx, [x.sum().item() for x, _ in batches]))
        return sum(self.loss(each) for each in batches)


def shuffled(size=22, **options):
    return DataLoader(TensorDataset(X[:size], X[:size, :2]), batch_size=4, shuffle=True, **options)


class Saves:
    """Saves after every batch and every epoch."""

    stage = "persist"

    def __init__(self, folder):
        self.folder = folder
        self.files = []

    def on_train_batch_end(self, trainer):
        self.save(trainer, f"{trainer.current_epoch}-{trainer.progress.batch}.ckpt")

    def on_train_epoch_end(self, trainer):
        self.save(trainer, f"{trainer.current_epoch}-end.ckpt")

    def save(self, trainer, name):
        self.files.append(self.folder / name)
        trainer.save_checkpoint(self.files[-1])


def train(loader, *, seed, **arguments):
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    module = Dropping()
    trainer = quiet_trainer(max_epochs=3, callbacks=arguments.pop("callbacks", None))
    trainer.fit(module, loader, **arguments)
    return module
