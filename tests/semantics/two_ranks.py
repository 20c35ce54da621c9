"""What two ranks log and see: ``torchrun two_ranks.py FOLDER`` writes ``FOLDER/rank_N.pt`` on rank N."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from trainkit import Trainer
from trainkit.testing import TinyModule

SAMPLES = 7


class Watched(TinyModule):
    """Logs its rank in every way, and notes which samples it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list[int]] = {"train": [], "validate": [], "predict": []}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen["train"] += batch.tolist()
        rank = float(self.global_rank)
        self.log("epoch", rank, on_step=False, on_epoch=True)
        self.log("epoch here", rank, on_step=False, on_epoch=True, sync_dist=False)
        self.log("step here", rank)
        self.log("step", rank, sync_dist=True)
        return self(torch.ones(len(batch), 4)).sum()

    def on_train_epoch_end(self) -> None:
        self.log("hook", float(self.global_rank))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen["validate"] += batch.tolist()
        self.log("samples", float(len(batch)), reduce_fx="sum")

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen["predict"] += batch.tolist()


def loader(samples: int = SAMPLES) -> DataLoader[int]:
    return DataLoader(list(range(samples)), batch_size=2)  # type: ignore[arg-type]  # a list is a dataset


def main(folder: Path) -> None:
    module = Watched()
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp",
        max_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader(8), loader())
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    trainer.predict(module, loader())
    torch.save({"logged": logged, "seen": module.seen}, folder / f"rank_{trainer.global_rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
