"""`ModelCheckpoint(async_save=True)`: training goes on while a copy of the state is written."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainkit.callbacks import Callback, ModelCheckpoint
from trainkit.callbacks.model_checkpoint import writer as writer_file
from trainkit.errors import CheckpointError, CheckpointWriteError
from trainkit.storage.files import read_checkpoint
from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_state, quiet_trainer


class SlowDisk:
    """Lets a save wait, or fail, when it is brought to the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_end = threading.Event()
        self.fails = False
        self.threads: set[int] = set()
        sync = os.fsync

        def wait(descriptor: int) -> None:
            self.threads.add(threading.get_ident())
            assert self.may_end.wait(timeout=60)
            if self.fails:
                raise OSError(errno.ENOSPC, "No space left on device")
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", wait)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    return SlowDisk(monkeypatch)


class At(Callback):
    """Does something when the n-th batch begins, behind the save that came before it."""

    def __init__(self, batch: int, act: Callable[[], None]) -> None:
        self.batch, self.act, self.batches = batch, act, 0

    def on_train_batch_start(self) -> None:
        self.batches += 1
        if self.batches == self.batch:
            self.act()


def fit(folder: Path, *callbacks: Any, save_every: int = 2, async_save: bool = True, **options: Any) -> Any:
    """Train for six updates, with saves after every ``save_every``."""
    checkpoint = ModelCheckpoint(folder, every_n_train_steps=save_every, async_save=async_save, **options)
    trainer = quiet_trainer(enable_checkpointing=True, callbacks=[checkpoint, *callbacks])
    trainer.fit(TinyModule(), TinyData(7))
    return trainer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".ckpt")


def test_training_goes_on_while_it_is_written_and_the_next_save_waits(tmp_path: Path, disk: SlowDisk) -> None:
    seen: list[list[str]] = []

    def look_and_let_it_end() -> None:
        seen.append(names(tmp_path))
        disk.may_end.set()

    # The save after two updates cannot end before the fourth batch has begun.
    fit(tmp_path, At(4, look_and_let_it_end), save_top_k=-1)
    assert seen == [[]]
    assert names(tmp_path) == [f"epoch=0-step={step}.ckpt" for step in (2, 4, 6)]
    assert threading.get_ident() not in disk.threads


def test_what_is_written_is_what_it_was_when_it_was_saved(tmp_path: Path, disk: SlowDisk) -> None:
    disk.may_end.set()
    for async_save in (True, False):
        fit(tmp_path / str(async_save), async_save=async_save, save_top_k=-1, save_last=True)
    for name in names(tmp_path / "True"):
        saved = [read_checkpoint(tmp_path / str(async_save) / name) for async_save in (True, False)]
        for checkpoint in saved:
            checkpoint["loops"]["fit"].pop("elapsed_s")
            del checkpoint["callbacks"], checkpoint["trainkit"]["run"], checkpoint["trainkit"]["mark"]  # of each run
        assert_same_state(*saved)


def test_a_displaced_file_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    remove = writer_file.remove_checkpoint
    monkeypatch.setattr(writer_file, "remove_checkpoint", lambda path: (seen.append(names(tmp_path)), remove(path)))
    fit(tmp_path, save_every=3)
    assert seen == [["epoch=0-step=3.ckpt", "epoch=0-step=6.ckpt"]]
    assert names(tmp_path) == ["epoch=0-step=6.ckpt"]


def test_a_save_that_failed_is_an_error_by_the_next_one(tmp_path: Path, disk: SlowDisk) -> None:
    disk.fails = True
    disk.may_end.set()
    recorder = Recorder(["on_train_batch_end"])
    with pytest.raises(CheckpointWriteError, match=r"epoch=0-step=2.ckpt.*ENOSPC") as caught:
        fit(tmp_path, recorder)
    assert recorder.count("on_train_batch_end") == 4
    assert names(tmp_path) == []
    assert not hasattr(caught.value, "__notes__") or "tearing down" not in str(caught.value.__notes__)


def test_the_last_save_is_whole_or_an_error_when_the_fit_ends(tmp_path: Path, disk: SlowDisk) -> None:
    disk.may_end.set()
    fit(tmp_path, save_every=5)
    assert names(tmp_path) == ["epoch=0-step=5.ckpt"]
    disk.fails = True
    checkpoint = ModelCheckpoint(tmp_path, every_n_train_steps=5, async_save=True)
    trainer = quiet_trainer(enable_checkpointing=True, callbacks=[checkpoint])
    with pytest.raises(CheckpointWriteError, match="epoch=0-step=5-v1.ckpt"):
        trainer.fit(TinyModule(), TinyData(7))
    assert checkpoint.best_model_path == ""


def test_a_run_that_fails_finishes_its_save(tmp_path: Path, disk: SlowDisk) -> None:
    def fail() -> None:
        threading.Timer(0.5, disk.may_end.set).start()  # longer than the rest of the teardown takes
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, At(3, fail))
    assert names(tmp_path) == ["epoch=0-step=2.ckpt"]


def test_what_cannot_be_stored_is_an_error_at_once(tmp_path: Path) -> None:
    class Put(Callback):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["path"] = tmp_path

    recorder = Recorder(["on_train_batch_end"])
    with pytest.raises(CheckpointError, match="path: pathlib"):
        fit(tmp_path, Put(), recorder)
    assert recorder.count("on_train_batch_end") == 2


def test_two_that_save_at_one_step_into_one_folder_do_not_take_one_name(tmp_path: Path, disk: SlowDisk) -> None:
    best = ModelCheckpoint(tmp_path, monitor="step", every_n_train_steps=4, async_save=True)
    threading.Timer(0.05, disk.may_end.set).start()
    fit(tmp_path, best)
    assert names(tmp_path) == ["epoch=0-step=4-v1.ckpt", "epoch=0-step=6.ckpt"]
    assert read_checkpoint(best.best_model_path)["global_step"] == 4


def test_a_save_by_hand_waits_for_the_files_that_it_names(tmp_path: Path, disk: SlowDisk) -> None:
    found: list[bool] = []

    class SavesByHand(Callback):
        saves_now = False

        def on_train_batch_end(self, trainer: Any) -> None:
            if trainer.global_step == 2:
                threading.Timer(0.1, disk.may_end.set).start()  # the write of step 1 is under way
                self.saves_now = True
                trainer.save_checkpoint(tmp_path / "by_hand.ckpt")
                self.saves_now = False

        def on_save_checkpoint(self, trainer: Any) -> None:
            if self.saves_now:
                found.append(Path(trainer.checkpoint_callback.best_model_path).exists())

    saves = ModelCheckpoint(tmp_path / "files", every_n_train_steps=1, async_save=True)
    trainer = quiet_trainer(max_epochs=1, enable_checkpointing=True, keep_last=False, callbacks=[saves, SavesByHand()])
    trainer.fit(TinyModule(), TinyData(3))
    assert found == [True]
