from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import trainkit.compat.lightning as pl
from trainkit.compat.lightning.demos import boring_classes
from trainkit.compat.lightning.demos.boring_classes import BoringDataModule, BoringModel, ManualOptimBoringModel

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "max_epochs": 1,
    "limit_train_batches": 3,
    "limit_val_batches": 2,
    "num_sanity_val_steps": 0,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


@pytest.mark.parametrize("kind", [BoringModel, ManualOptimBoringModel])
def test_a_report_of_a_bug_runs(kind: type[BoringModel]) -> None:
    pl.seed_everything(1)
    model = kind()
    before = model.layer.weight.clone()
    trainer = pl.Trainer(**QUIET)
    trainer.fit(model)
    trainer.test(model, verbose=False)
    assert trainer.global_step == 3
    assert not torch.equal(model.layer.weight, before)
    assert len(trainer.predict(model, datamodule=BoringDataModule())) == 64


@pytest.mark.parametrize(
    ("dataset", "rows"),
    [
        (boring_classes.RandomDataset(32, 5), 5),
        (boring_classes.RandomIterableDataset(32, 4), 4),
    ],
)
def test_datasets_give_rows(dataset: Any, rows: int) -> None:
    trainer = pl.Trainer(**(QUIET | {"limit_train_batches": 1.0}))
    trainer.fit(BoringModel(), DataLoader(dataset))
    assert trainer.global_step == rows


def test_a_row_may_be_a_dict() -> None:
    row = boring_classes.RandomDictDataset(3, 2)[1]
    assert torch.equal(row["b"], row["a"] + 1)
