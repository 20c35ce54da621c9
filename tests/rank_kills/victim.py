"""What is killed: a training of several ranks that goes on from the newest state: ``victim.py FOLDER WORKERS``."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from trainkit import Trainer, TrainModule, seed_everything
from trainkit.callbacks import ModelCheckpoint

SAMPLES, FEATURES, EPOCHS = 240, 8, 3
PAUSE_S = 0.01
"""How long a step takes at least, so that a kill finds one."""


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Samples that are augmented with random numbers from every generator."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x = torch.full((FEATURES,), index / SAMPLES) + torch.rand(FEATURES) + random.random() + float(np.random.rand())
        return x, x[:1] * 2.0


class Victim(TrainModule):
    """Draws random numbers, keeps running statistics, and tells where it is."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.net = nn.Sequential(
            nn.Linear(FEATURES, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1)
        )

    def on_train_start(self) -> None:
        tell(self.folder, "training")

    def on_validation_start(self) -> None:
        tell(self.folder, "validation")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        time.sleep(PAUSE_S)
        x, y = batch
        loss = nn.functional.mse_loss(self.net(x), y)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        time.sleep(PAUSE_S)
        x, y = batch
        self.log("val/loss", nn.functional.mse_loss(self.net(x), y))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 10, 0.9), "interval": "step"}]


def tell(folder: Path, what: str, number: int | None = None) -> None:
    """Note in a file what this rank does, with the number of its process or another one."""
    (folder / f"{what}_{os.environ.get('RANK', '0')}").write_text(str(os.getpid() if number is None else number))


def fit(folder: Path, workers: int) -> None:
    tell(folder, "parent", os.getppid())
    tell(folder, "start")
    seed_everything(1)
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        accumulate_grad_batches=2,
        val_check_interval=15,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        callbacks=[ModelCheckpoint(every_n_train_steps=3, save_last=True)],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder / "runs",
    )
    loaders = (DataLoader(Samples(), size, shuffle=size == 4, num_workers=workers) for size in (4, 20))
    trainer.fit(Victim(folder), *loaders, ckpt_path="last")
    trainer.save_checkpoint(folder / "end.ckpt")


def run(folder: Path, workers: int) -> None:
    """Train, and note with which code this rank has ended."""
    code = 1
    try:
        fit(folder, workers)
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
        raise
    finally:
        (folder / f"exit_{os.environ.get('RANK', '0')}").write_text(str(code))


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
