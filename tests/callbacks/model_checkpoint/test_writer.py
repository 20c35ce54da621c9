"""What was planned is written, and then what it displaces is deleted."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from trainkit.callbacks.model_checkpoint import writer as writer_file
from trainkit.callbacks.model_checkpoint.own_files import OwnFiles
from trainkit.callbacks.model_checkpoint.writer import CheckpointWriter, SavePlan
from trainkit.storage.files import read_checkpoint


@pytest.fixture
def writer(tmp_path: Path) -> CheckpointWriter:
    own = OwnFiles(".ckpt")
    own.begin(str(tmp_path), mark="")
    return CheckpointWriter(own)


def plan_of(path: Path, **given: Any) -> SavePlan:
    return SavePlan(**({"path": str(path), "last": None, "links_last": False, "message": "", "state": {}} | given))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_files_that_the_run_has_written_are_deleted(tmp_path: Path, writer: CheckpointWriter) -> None:
    first, second, other = tmp_path / "first.ckpt", tmp_path / "second.ckpt", tmp_path / "other.ckpt"
    other.touch()
    writer.write(plan_of(first), set(), {"a": 1}, str(first))
    obsolete = {str(first), str(other)}
    writer.write(plan_of(second), obsolete, {"a": 2}, str(second))
    assert names(tmp_path) == ["other.ckpt", "second.ckpt"]
    assert obsolete == set()


def test_last_is_a_copy_or_a_link(tmp_path: Path, writer: CheckpointWriter) -> None:
    for links in (False, True):
        path, last = tmp_path / f"{links}.ckpt", tmp_path / f"last-{links}.ckpt"
        writer.write(plan_of(path, last=str(last), links_last=links), set(), {"a": 1}, str(path))
        assert last.is_symlink() is links
        assert read_checkpoint(last)["a"] == 1


def test_a_file_that_cannot_be_deleted_stays_due_and_is_told_of_once_in_a_run(
    tmp_path: Path, writer: CheckpointWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", path)

    path = str(tmp_path / "a.ckpt")
    writer.write(plan_of(Path(path)), set(), {"a": 1}, path)
    monkeypatch.setattr(writer_file, "remove_checkpoint", refuse)
    obsolete = {path}
    with pytest.warns(UserWarning, match=r"a\.ckpt could not be deleted, and will be tried again") as told:
        writer.delete(obsolete)
        writer.delete(obsolete)
        assert len(told) == 1
        writer.begin()
        writer.delete(obsolete)
    assert len(told) == 2
    assert obsolete == {path}
