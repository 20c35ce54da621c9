"""Evaluations of every size on several ranks, with torchmetrics: ``torchrun evaluating_ranks.py FOLDER``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MaxMetric, MeanMetric, MeanSquaredError, MetricCollection, SumMetric
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC, BinaryF1Score

from trainkit import TrainModule
from trainkit.testing import quiet_trainer

BATCH = 2


class Judge(TrainModule):
    """Logs objects of torchmetrics of many kinds: with sums, and with states that are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1).double()
        self.of_all = MetricCollection([BinaryAccuracy(), BinaryF1Score()])
        self.area, self.mean, self.largest = BinaryAUROC(), MeanMetric(), MaxMetric()
        self.error = MeanSquaredError()
        self.of_loaders = nn.ModuleList([SumMetric(), SumMetric()])

    def judge(self, batch: Any, dataloader_idx: int) -> None:
        x, y = batch
        score = self.layer(x).sigmoid().flatten()
        self.log("plain", score.mean())
        self.log("sum", score.sum(), reduce_fx="sum")
        if dataloader_idx == 0:
            self.area.update(score, y)
            self.log("area", self.area, add_dataloader_idx=False)
            self.of_all.update(score, y)
            self.log_dict(dict(self.of_all), on_epoch=True, add_dataloader_idx=False)
            self.error.update(score, y.double())
            self.mean(score, weight=torch.ones_like(score))
            self.largest(score)
            self.log("error", self.error, add_dataloader_idx=False)
            self.log("mean", self.mean, add_dataloader_idx=False)
            self.log("largest", self.largest, add_dataloader_idx=False)
        of_loader = self.of_loaders[dataloader_idx]
        of_loader.update(score)
        self.log("of_loader", of_loader)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.judge(batch, dataloader_idx)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.judge(batch, dataloader_idx)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.layer(batch[0])


def loader(samples: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(samples)
    x = torch.randn(samples, 3, generator=generator).double()
    return DataLoader(TensorDataset(x, torch.randint(2, (samples,), generator=generator)), batch_size=BATCH)


def evaluated(sizes: range) -> dict[int, Any]:
    """Return what evaluations of so many samples come to."""
    trainer, module = quiet_trainer(strategy="ddp" if "RANK" in os.environ else "auto"), Judge()
    return {
        size: {
            "validated": trainer.validate(module, loader(size), verbose=False),
            "tested": trainer.test(module, [loader(size), loader(size % 5 + 1)], verbose=False),
            "predicted": torch.cat(trainer.predict(module, loader(size)) or []),
        }
        for size in sizes
    }


def main(folder: Path) -> None:
    world_size = int(os.environ["WORLD_SIZE"])
    torch.save(evaluated(range(1, 4 * world_size * BATCH + 1)), folder / f"rank_{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
