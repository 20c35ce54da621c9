"""When two ranks with batches of different sizes do things: ``torchrun interval_ranks.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from trainkit.callbacks import Callback, ModelCheckpoint
from trainkit.testing import TinyData, TinyModule, quiet_trainer

SIZES = [[1, 2, 3, 1, 5], [4, 1, 2, 2, 1]]
"""Samples in the batches of each rank."""


class Scheduled(TinyModule):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return [optimizer], [{"scheduler": self.scheduler, "every": "3 samples"}]


class Notes(Callback):
    def __init__(self) -> None:
        self.validated: list[int] = []
        self.samples: list[int] = []
        self.rows: list[int] = []
        self.stepped: list[int] = []

    def on_train_batch_end(self, trainer: Any, module: Any) -> None:
        self.samples.append(trainer.progress.samples)
        self.stepped.append(module.scheduler.last_epoch)

    def on_validation_start(self, trainer: Any) -> None:
        self.validated.append(trainer.progress.total_batches)

    def on_log(self, metrics: dict[str, float], step: int) -> None:
        self.rows += [step] if "train/loss" in metrics else []


def main(folder: Path) -> None:
    notes = Notes()
    saves = [
        ModelCheckpoint(folder / "samples", "{step}", save_top_k=-1, every="9 samples"),
        ModelCheckpoint(folder / "time", save_top_k=-1, every="1 h"),
    ]
    trainer = quiet_trainer(
        strategy="ddp",
        enable_checkpointing=True,
        keep_last=False,
        val_check_interval="8 samples",
        log_every_n_steps="6 samples",
        callbacks=[notes, *saves],
        use_distributed_sampler=False,
    )
    sizes = SIZES[trainer.strategy.rank]
    batches = [TinyData(1, size, seed=index)[0] for index, size in enumerate(sizes)]
    trainer.fit(Scheduled(), batches, TinyData(1))
    torch.save(vars(notes), folder / f"rank_{trainer.strategy.rank}.pt")
    # By time: that ranks agree on it shows in that none of them waits for the other.
    quiet_trainer(strategy="ddp", log_every_n_steps="1 h").fit(TinyModule(), batches)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
