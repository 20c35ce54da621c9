from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from trainkit.callbacks import ModelCheckpoint
from trainkit.errors import CheckpointError, CheckpointNotFoundError, CheckpointWriteError
from trainkit.storage import remote
from trainkit.storage.files import (
    checkpoint_exists,
    copy_checkpoint,
    link_checkpoint,
    read_checkpoint,
    remove_checkpoint,
    verify,
    write_checkpoint,
)
from trainkit.testing import TinyData, TinyModule, assert_same_state, assert_same_weights, quiet_trainer

CHECKPOINT = {"epoch": 3, "state_dict": {"weight": torch.arange(800_000.0)}}


class Frail(MemoryFileSystem):
    """A file system whose files break after so many writes."""

    protocol = "frail"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    lives = 0

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super()._open(path, mode, **options)
        if "w" in mode:
            file.write = self._mortal(file.write)
        return file

    def _mortal(self, write: Any) -> Any:
        def call(data: bytes) -> Any:
            Frail.lives -= 1
            if Frail.lives < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(data)

        return call


@pytest.fixture
def root() -> Iterator[str]:
    fsspec.register_implementation("frail", Frail, clobber=True)
    yield "memory://runs"
    for store in (MemoryFileSystem.store, Frail.store):
        store.clear()


def test_what_is_written_is_read(root: str) -> None:
    url = f"{root}/deep/down/last.ckpt"
    write_checkpoint(CHECKPOINT, url)
    assert_same_state(read_checkpoint(url), CHECKPOINT)
    assert checkpoint_exists(url)


def test_missing_files_are_missing(root: str) -> None:
    with pytest.raises(CheckpointNotFoundError, match="there is no checkpoint memory://runs/none.ckpt"):
        read_checkpoint(f"{root}/none.ckpt")
    assert not checkpoint_exists(f"{root}/none.ckpt")


def test_damage_is_noticed(root: str) -> None:
    url = f"{root}/last.ckpt"
    write_checkpoint(CHECKPOINT, url)
    system = fsspec.filesystem("memory")
    system.pipe("/runs/last.ckpt", system.cat("/runs/last.ckpt")[:-7])
    for check in (verify, read_checkpoint):
        with pytest.raises(CheckpointError, match="last.ckpt is damaged or cut off"):
            check(url)


def test_files_that_would_run_code_are_refused(root: str) -> None:
    with fsspec.open(f"{root}/hostile.ckpt", "wb") as file:
        torch.save({"state_dict": os.getcwd}, file)
    with pytest.raises(CheckpointError, match=r"refused: loading it would run code \((nt|posix)\.getcwd\)"):
        read_checkpoint(f"{root}/hostile.ckpt")


@pytest.mark.parametrize("lives", range(3))
def test_what_is_sent_by_halves_is_discarded(root: str, lives: int) -> None:
    url = "frail://runs/last.ckpt"
    Frail.lives = 100
    write_checkpoint({"epoch": 0}, url)
    Frail.lives = lives
    with pytest.raises(CheckpointWriteError, match=r"could not write frail://runs/last.ckpt.*No space left") as caught:
        write_checkpoint(CHECKPOINT, url)
    assert caught.value.errno == errno.ENOSPC
    assert read_checkpoint(url) == {"epoch": 0}
    assert len(Frail.store) == 1


def test_copies_are_whole_and_links_are_copies(root: str) -> None:
    write_checkpoint({"epoch": 1}, f"{root}/a.ckpt")
    copy_checkpoint(f"{root}/a.ckpt", f"{root}/b.ckpt")
    link_checkpoint(f"{root}/a.ckpt", f"{root}/c.ckpt")
    remove_checkpoint(f"{root}/a.ckpt")
    remove_checkpoint(f"{root}/a.ckpt")
    assert sorted(remote.find(root, ".ckpt")) == [f"{root}/b.ckpt", f"{root}/c.ckpt"]
    assert read_checkpoint(f"{root}/b.ckpt") == read_checkpoint(f"{root}/c.ckpt") == {"epoch": 1}


def test_an_unknown_kind_of_url_is_an_error_that_names_it() -> None:
    with pytest.raises(CheckpointWriteError, match=r"could not write nowhere://a.ckpt: Protocol not known"):
        write_checkpoint({}, "nowhere://a.ckpt")


def test_a_run_saves_to_a_url_and_continues_from_there(root: str) -> None:
    def fit(max_epochs: int, **arguments: Any) -> Any:
        checkpoint = ModelCheckpoint(f"{root}/checkpoints/", monitor="train/loss", save_top_k=2, save_last="link")
        trainer = quiet_trainer(max_epochs=max_epochs, enable_checkpointing=True, callbacks=[checkpoint])
        trainer.fit(TinyModule(), TinyData(3), **arguments)
        return trainer

    whole = fit(4)
    files = sorted(remote.find(root, ".ckpt"))
    assert [url.rpartition("/")[2] for url in files] == ["epoch=2-step=9.ckpt", "epoch=3-step=12.ckpt", "last.ckpt"]
    for url in files:
        remove_checkpoint(url)
    fit(2)
    resumed = fit(4, ckpt_path="last")
    assert resumed.ckpt_path.startswith(root)
    assert_same_weights(resumed.module, whole.module)
    assert sorted(remote.find(root, ".ckpt")) == files


@pytest.mark.parametrize("protocol", ["file", "local"])
def test_a_url_of_this_machine_is_written_as_a_path_is(tmp_path: Path, protocol: str) -> None:
    url = f"{protocol}://{tmp_path}/runs/a.ckpt"
    write_checkpoint({"epoch": 0}, url)
    (tmp_path / "runs" / "a.ckpt").chmod(0o600)
    write_checkpoint({"epoch": 1}, url)
    assert (tmp_path / "runs" / "a.ckpt").stat().st_mode & 0o777 == 0o600
    assert read_checkpoint(url) == {"epoch": 1}
    (tmp_path / "full").write_text("")
    with pytest.raises(CheckpointWriteError, match="is a file and no folder"):
        write_checkpoint({"epoch": 1}, f"{protocol}://{tmp_path}/full/a.ckpt")
