"""Several runs that write into one folder, or begin from each other's files: each leaves those of the others alone."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from trainkit import Trainer
from trainkit.callbacks import ModelCheckpoint
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Scored(TinyModule):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("score", torch.tensor(5.0 - self.current_epoch))


def run(root: Path, epochs: int, callback: ModelCheckpoint, **arguments: Any) -> Trainer:
    trainer = quiet_trainer(default_root_dir=root, max_epochs=epochs, enable_checkpointing=True, callbacks=[callback])
    trainer.fit(Scored(), TinyData(2), TinyData(1), **arguments)
    return trainer


def mark_in(path: Path) -> str:
    return str(read_checkpoint(path)["trainkit"]["mark"])


def test_the_last_state_is_not_that_of_a_run_of_the_same_name(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    first = run(tmp_path / "a", 3, ModelCheckpoint(shared))
    second = run(tmp_path / "b", 2, ModelCheckpoint(shared))
    assert first.last_checkpoint.run == second.last_checkpoint.run
    resumed = run(tmp_path / "b", 4, ModelCheckpoint(shared), ckpt_path="last")
    assert resumed.last_checkpoint.mark == second.last_checkpoint.mark
    assert mark_in(shared / "epoch=2-step=6.ckpt") == first.last_checkpoint.mark


def test_a_file_of_a_run_of_the_same_name_is_not_replaced(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    first = run(tmp_path / "a", 3, ModelCheckpoint(shared, save_top_k=-1))
    run(tmp_path / "b", 2, ModelCheckpoint(shared, save_top_k=-1))
    run(tmp_path / "b", 3, ModelCheckpoint(shared, save_top_k=-1), ckpt_path=tmp_path / "b/checkpoints/last.ckpt")
    assert mark_in(shared / "epoch=2-step=6.ckpt") == first.last_checkpoint.mark
    assert (shared / "epoch=2-step=6-v1.ckpt").exists()


def test_a_run_that_begins_from_a_file_deletes_none_of_the_run_that_it_is_of(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    first = run(tmp_path / "a", 2, ModelCheckpoint(shared, monitor="score", save_top_k=2))
    files = set(shared.iterdir())
    second = run(
        tmp_path / "b",
        4,
        ModelCheckpoint(shared, monitor="score", save_top_k=2),
        ckpt_path=shared / "epoch=1-step=4.ckpt",
    )
    assert files <= set(shared.iterdir())
    assert second.last_checkpoint.mark != first.last_checkpoint.mark


def test_a_run_that_goes_on_deletes_what_it_displaces(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    run(tmp_path / "a", 2, ModelCheckpoint(shared, monitor="score"))
    run(tmp_path / "a", 4, ModelCheckpoint(shared, monitor="score"), ckpt_path="last")
    assert [path.name for path in shared.iterdir()] == ["epoch=3-step=8.ckpt"]


def test_a_best_file_of_which_only_a_file_tells_is_not_looked_at(tmp_path: Path) -> None:
    run(tmp_path / "a", 1, ModelCheckpoint(tmp_path / "a/ck", monitor="score"))
    secret = tmp_path / "else/secret.ckpt"
    secret.parent.mkdir()
    shutil.copy(tmp_path / "a/ck/epoch=0-step=2.ckpt", secret)
    checkpoint = read_checkpoint(secret)
    (state,) = (each for key, each in checkpoint["callbacks"].items() if key.startswith("ModelCheckpoint"))
    state |= {"best_model_path": str(secret), "best_model_score": -99.0, "dirpath": "/nowhere"}
    (tmp_path / "forged").mkdir()
    write_checkpoint(checkpoint, tmp_path / "forged/a.ckpt")
    looked_at: list[str] = []
    sys.addaudithook(lambda event, arguments: looked_at.append(str(arguments[0])) if event == "open" else None)
    callback = ModelCheckpoint(tmp_path / "b/ck", monitor="score")
    run(tmp_path / "b", 2, callback, ckpt_path=tmp_path / "forged/a.ckpt")
    assert callback.best_model_path == str(tmp_path / "b/ck/epoch=1-step=4.ckpt")
    assert str(secret) not in looked_at


def test_the_best_of_another_folder_counts_if_it_is_there_and_was_named(tmp_path: Path) -> None:
    run(tmp_path, 2, ModelCheckpoint(tmp_path / "old", monitor="score", mode="max"))
    moved = ModelCheckpoint(tmp_path / "new", monitor="score", mode="max")
    run(tmp_path, 3, moved, ckpt_path="last")
    assert moved.best_model_path == str(tmp_path / "old/epoch=0-step=2.ckpt")
    shutil.rmtree(tmp_path / "old")
    gone = ModelCheckpoint(tmp_path / "newer", monitor="score", mode="max")
    run(tmp_path, 4, gone, ckpt_path="last")
    assert gone.best_model_path == str(tmp_path / "newer/epoch=3-step=8.ckpt")
