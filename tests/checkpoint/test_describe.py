from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from trainkit.checkpoint.describe import describe, tensors_in
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def described(tmp_path: Path, place: str, **arguments: Any) -> dict[str, str]:
    """Describe what is saved when the hook ``place`` is called the second time."""
    found: list[dict[str, Any]] = []

    class Save:
        calls = 0

    def save(self: Any, trainer: Any) -> None:
        self.calls += 1
        if self.calls == 2:
            found.append(trainer.dump_checkpoint())

    setattr(Save, place, save)
    trainer = quiet_trainer(**({"max_epochs": 2} | arguments), callbacks=[Save()])
    trainer.fit(TinyModule(), TinyData(3), TinyData(2))
    return dict(describe(found[0]))


def test_it_says_who_wrote_it_and_what_it_is_of(tmp_path: Path) -> None:
    lines = described(tmp_path, "on_train_batch_end")
    assert lines["written by"].startswith("trainkit ")
    assert lines["module"] == "TinyModule: 10 numbers in 2 tensors"
    assert lines["hyperparameters"] == "in_features=4, out_features=2, lr=0.1, seed=0"
    assert lines["ranks"] == "1"
    assert "schedulers" not in lines


def test_it_says_how_far_the_run_had_come(tmp_path: Path) -> None:
    def progress(place: str, **arguments: Any) -> str:
        return described(tmp_path, place, **arguments)["progress"].rpartition(";")[0]

    assert progress("on_train_batch_end") == "epoch 0, 2 updates; behind batch 2 of the epoch"
    assert (
        progress("on_train_batch_end", accumulate_grad_batches=3)
        == "epoch 0, 0 updates; behind batch 2 of the epoch, within an accumulation group"
    )
    assert progress("on_train_epoch_end") == "epoch 1, 6 updates; at the end of an epoch"
    assert progress("on_validation_batch_end") == "epoch 0, 3 updates; in a validation, behind batch 2 of loader 0"


def test_weights_alone_and_files_of_others_are_described_too() -> None:
    foreign = {"state_dict": {"w": torch.zeros(250_000)}, "epoch": 1, "global_step": 2}
    assert describe(foreign) == [
        ("written by", "another program"),
        ("module", "(unknown): 250,000 numbers in 1 tensors"),
        ("progress", "epoch 1, 2 updates; weights only"),
        ("tensors", "state_dict 1 MB"),
    ]
    lines = dict(describe({"state_dict": {}, "weights": torch.zeros(307, dtype=torch.uint8)}))
    assert "progress" not in lines
    assert lines["tensors"] == "weights 307 B"


def test_tensors_are_found_at_any_depth() -> None:
    nested = {"a": [torch.zeros(1), {"b": (torch.zeros(2), 3)}], 4: torch.zeros(3)}
    assert [place for place, _ in tensors_in(nested)] == ["a[0]", "a[1].b[0]", "4"]
