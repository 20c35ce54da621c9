from __future__ import annotations

import errno
import os
import resource
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.checkpoint.faults import Faults
from trainkit.errors import CheckpointWriteError
from trainkit.storage.atomic_write import (
    check_writable,
    replace_by_copy,
    replace_by_hard_link,
    replace_by_link,
    replacing,
)
from trainkit.storage.files import read_checkpoint, write_checkpoint

BIG = {"weight": torch.zeros(100_000)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "last.ckpt"


def faulty(monkeypatch: pytest.MonkeyPatch, code: int) -> Faults:
    faults = Faults(lambda owner, name, value: monkeypatch.setattr(owner, name, value, raising=False))
    faults.fail_with(code)
    return faults


def test_a_failure_of_any_call_is_an_error_and_leaves_the_old_checkpoint(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint({"epoch": 0}, path)
    faults = faulty(monkeypatch, errno.EIO)
    write_checkpoint({"epoch": 0}, path)
    whole = faults.calls
    # torch flushes as well.
    assert [name for name in whole if name not in ("write", "flush")] == ["open", "fsync", "replace", "fsync"]
    for fail_at, name in enumerate(whole, start=1):
        faults.begin(fail_at)
        with pytest.raises(CheckpointWriteError, match=r"could not write .*last\.ckpt: Input/output error \(EIO\)"):
            write_checkpoint({"epoch": fail_at}, path)
        renamed = fail_at == len(whole)
        assert read_checkpoint(path) == {"epoch": fail_at if renamed else 0}, f"{name}, call {fail_at}"
        assert os.listdir(path.parent) == ["last.ckpt"], f"{name}, call {fail_at}"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_system_that_takes_no_more_is_an_error_with_its_own_reason(path: Path) -> None:
    write_checkpoint({"epoch": 0}, path)
    with largest_file(50_000), pytest.raises(CheckpointWriteError, match=r"File too large \(EFBIG\)") as caught:
        write_checkpoint(BIG, path)
    assert caught.value.errno == errno.EFBIG
    assert isinstance(caught.value, OSError)
    assert read_checkpoint(path) == {"epoch": 0}
    assert os.listdir(path.parent) == ["last.ckpt"]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EACCES, "Change the rights"),
        (errno.EROFS, "write elsewhere"),
        (errno.ENAMETOOLONG, "shorter filename"),
    ],
)
def test_the_error_says_what_to_do(path: Path, monkeypatch: pytest.MonkeyPatch, code: int, advice: str) -> None:
    faulty(monkeypatch, code).begin(fail_at=3)
    with pytest.raises(CheckpointWriteError, match=rf"\({errno.errorcode[code]}\).*{advice}"):
        write_checkpoint(BIG, path)


def test_a_file_in_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(CheckpointWriteError, match="is a file and no folder"):
        write_checkpoint({}, tmp_path / "runs" / "a.ckpt")


def test_an_interrupt_while_writing_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint({"epoch": 0}, path)

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint({"epoch": 1}, path)
    assert os.listdir(path.parent) == ["last.ckpt"]
    assert read_checkpoint(path) == {"epoch": 0}


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("write", [replace_by_copy, replace_by_hard_link, replace_by_link])
def test_a_file_that_is_private_stays_so_whatever_replaces_it(
    tmp_path: Path, write: Callable[[Path, Path], None]
) -> None:
    path, target = tmp_path / "last.ckpt", tmp_path / "epoch=1.ckpt"
    path.write_text("old")
    path.chmod(0o600)
    target.write_text("new")
    write(path, target)
    assert path.read_text() == "new"
    assert mode_of(path) == 0o600
    assert mode_of(target) == 0o644


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("write", [replace_by_copy, replace_by_hard_link, replace_by_link])
def test_what_takes_the_content_of_a_private_file_is_private(
    tmp_path: Path, write: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "epoch=1.ckpt").write_text("new")
    (tmp_path / "epoch=1.ckpt").chmod(0o600)
    write(tmp_path / "last.ckpt", tmp_path / "epoch=1.ckpt")
    assert mode_of(tmp_path / "last.ckpt") == 0o600


@pytest.mark.parametrize("write", [replace_by_copy, replace_by_hard_link, replace_by_link])
def test_the_folder_of_a_link_is_made(tmp_path: Path, write: Callable[[Path, Path], None]) -> None:
    target, path = tmp_path / "epoch=1.ckpt", tmp_path / "new" / "folder" / "last.ckpt"
    target.write_text("new")
    write(path, target)
    assert path.read_text() == "new"
    assert path.is_symlink() == (write is replace_by_link)
    assert path.samefile(target) == (write is not replace_by_copy)


def test_what_is_written_through_a_link_replaces_the_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("of somebody else")
    (tmp_path / "last.ckpt").symlink_to("elsewhere")
    with replacing(tmp_path / "last.ckpt") as file:
        file.write(b"new")
    assert (tmp_path / "elsewhere").read_text() == "of somebody else"
    assert not (tmp_path / "last.ckpt").is_symlink()


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "last.ckpt")
    with pytest.raises(CheckpointWriteError, match="is a device or a pipe"):
        write_checkpoint({}, tmp_path / "last.ckpt")
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_a_folder_that_can_be_made_is_writable_and_is_not_made(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert os.listdir(tmp_path) == []


def test_a_folder_below_a_file_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(CheckpointWriteError, match=r"could not write .*/a/b: .*/a is no folder \(ENOTDIR\)"):
        check_writable(tmp_path / "a" / "b")


@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.EACCES, r"\(EACCES\).*Change the rights"), (errno.EROFS, r"\(EROFS\)"), (errno.ENOSPC, "Free some space")],
)
def test_a_folder_without_rights_or_room_is_not_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    # The rights themselves cannot be taken from a superuser, under whom tests may run.
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(CheckpointWriteError, match=message):
        check_writable(tmp_path)


def test_a_name_that_no_file_system_has_is_not_writable(tmp_path: Path) -> None:
    with pytest.raises(CheckpointWriteError, match="could not write"):
        check_writable(tmp_path / ("x" * 300) / "checkpoints")
