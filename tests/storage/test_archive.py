from __future__ import annotations

import copy
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainkit.errors import CheckpointError
from trainkit.storage.archive import SEAL, Archive, ArchiveError, seal
from trainkit.storage.files import read_checkpoint, write_checkpoint

WEIGHTS = {"state_dict": {"a": torch.arange(4.0), "b": torch.arange(4.0) + 9}}


def saved(checkpoint: object = WEIGHTS) -> io.BytesIO:
    """What torch writes, without a seal."""
    file = io.BytesIO()
    torch.save(checkpoint, file)
    return file


def rewritten(file: io.BytesIO, change: dict[str, bytes], **arguments: int) -> io.BytesIO:
    """The same archive with other parts, and the checksums of these; with its comment."""
    other = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(other, "w", **arguments) as new:  # type: ignore[call-overload]
        for part in old.infolist():
            new.writestr(part.filename, change.get(part.filename, old.read(part)))
        new.comment = old.comment
    return other


def damage(file: io.BytesIO) -> str:
    """What is said of a file when all of it is read."""
    try:
        Archive(file).check_rest()
    except ArchiveError as error:
        return str(error)
    return ""


def test_what_is_written_is_sealed_and_torch_reads_it(tmp_path: Path) -> None:
    write_checkpoint(WEIGHTS, tmp_path / "a.ckpt")
    with zipfile.ZipFile(tmp_path / "a.ckpt") as archive:
        assert archive.comment.startswith(SEAL)
    for mmap in (False, True):
        loaded = torch.load(tmp_path / "a.ckpt", weights_only=True, mmap=mmap)
        assert loaded["state_dict"]["b"].tolist() == [9, 10, 11, 12]


def test_a_file_without_a_seal_is_whole_too() -> None:
    assert damage(saved()) == ""


def test_a_part_that_was_exchanged_with_its_checksum_is_found() -> None:
    file = saved()
    seal(file)
    assert damage(file) == ""
    with zipfile.ZipFile(file) as archive:
        one, other = (name for name in archive.namelist() if "/data/" in name)
        exchanged = {one: archive.read(other), other: archive.read(one)}
    assert "does not match its checksums" in damage(rewritten(file, exchanged))
    assert "does not match its checksums" in damage(rewritten(file, {one: b"\0" * 16}))


@pytest.mark.parametrize("cut", range(1, len(SEAL) + 64 + 3))
def test_a_seal_that_is_cut_off_is_found(cut: int) -> None:
    file = saved()
    seal(file)
    assert damage(io.BytesIO(file.getvalue()[:-cut]))


def test_compressed_parts_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    bomb = rewritten(saved({"state_dict": {"a": torch.zeros(2**22)}}), {}, compression=zipfile.ZIP_DEFLATED)
    (tmp_path / "a.ckpt").write_bytes(bomb.getvalue())
    with pytest.raises(CheckpointError, match="its parts are compressed"):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("change", [str, str.upper])
def test_two_parts_of_one_name_are_damage(change: Callable[[str], str]) -> None:
    file = saved()
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(change(archive.namelist()[0]), b"other")
    assert damage(file)


def test_parts_that_lie_within_one_another_are_refused_before_any_is_read() -> None:
    file = saved({"state_dict": {"a": torch.zeros(2**12)}})
    with zipfile.ZipFile(file, "a") as archive:
        again = copy.copy(max(archive.filelist, key=lambda part: part.file_size))
        again.filename += "0"
        archive.filelist.append(again)  # the same bytes under a second name
        archive._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(ArchiveError, match="is damaged"):
        Archive(file)


def test_checksums_are_written_also_where_a_program_has_switched_them_off(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        write_checkpoint(WEIGHTS, tmp_path / "a.ckpt")
        assert not torch.serialization.get_crc32_options()
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint(tmp_path / "a.ckpt")["state_dict"]["a"].tolist() == [0, 1, 2, 3]
