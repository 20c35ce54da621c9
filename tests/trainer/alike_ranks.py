"""How two ranks split their data: ``torchrun alike_ranks.py FOLDER`` writes ``FOLDER/rank_N.pt`` on rank N."""

from __future__ import annotations

import random
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, random_split

from trainkit.data import DataModule
from trainkit.seed import seed_everything
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def drawn() -> list[float]:
    return [torch.rand(()).item(), random.random(), float(np.random.rand())]


class Data(DataModule):
    """Splits at random, as ``kind`` says."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.split: list[Any] = []

    def setup(self, stage: str) -> None:
        if self.kind == "seeded within":
            seed_everything(5)
        # A split of 20 into halves is one of 184,756.
        self.split = [sorted(random_split(range(20), [10, 10])[0].indices), *drawn()]  # type: ignore[arg-type]

    def train_dataloader(self) -> Any:
        return DataLoader(TinyData(2, 1)[0][0].repeat(2, 1), batch_size=1)


class Module(TinyModule):
    """Splits at random too, and notes what it draws in training."""

    def setup(self, stage: str) -> None:
        self.split = drawn()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.in_training = drawn()
        return self(batch).sum()


class Batches(TinyModule):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(batch)


class SplitsLate(DataModule):
    """Splits when its loader is made."""

    def train_dataloader(self) -> Any:
        return DataLoader(random_split(TinyData(2, 1)[0][0].repeat(20, 1), [10, 10])[0], batch_size=1)  # type: ignore[arg-type]


def told_of(stage: str) -> list[str]:
    """Return what is told of other data on the ranks in a fit or a validation."""
    torch.seed()
    trainer = quiet_trainer(strategy="ddp")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if stage == "fit":
            trainer.fit(Module(), datamodule=SplitsLate())
        else:
            trainer.validate(Batches(), SplitsLate().train_dataloader(), verbose=False)
    return [str(each.message) for each in told if "other samples" in str(each.message)]


def main(folder: Path) -> None:
    found: dict[str, Any] = {"told in fit": told_of("fit"), "told in validate": told_of("validate")}
    for kind in ("unseeded", "seeded", "seeded within"):
        if kind == "seeded":
            seed_everything(3)
        else:
            # What each process has by itself.
            torch.seed(), random.seed(), np.random.seed()
        module, data = Module(), Data(kind)
        trainer = quiet_trainer(strategy="ddp")
        trainer.fit(module, datamodule=data)
        found[kind] = {"data": data.split, "module": module.split, "training": module.in_training}
    torch.save(found, folder / f"rank_{trainer.global_rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
