from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.storage.sharded.spoiling import ACCIDENTS, WORKS, content_of, replace_part, saved, shards_in
from trainkit.checkpoint.diff import differences
from trainkit.errors import CheckpointError, CheckpointNotFoundError
from trainkit.storage.files import copy_checkpoint, read_checkpoint, read_form, share_checkpoint, verify
from trainkit.storage.sharded.place_holder import SavedTensor
from trainkit.storage.sharded.reader import ShardedFiles, saved_in

pytestmark = pytest.mark.slow


def expected(folder: Path) -> Any:
    return torch.load(folder / "2.pt", weights_only=True)


def test_all_of_it_is_read_as_it_was_saved(saved_by_two: Path) -> None:
    found = read_checkpoint(saved_by_two / "2.ckpt")
    assert [*map(str, differences(found, expected(saved_by_two)))] == []
    assert found["state_dict"]["tied"] is found["state_dict"]["a.b"]


def test_its_form_is_read_without_the_parts(copied: Path) -> None:
    for name in shards_in(copied):
        (copied / name).unlink()
    found = read_form(copied)
    assert found["number"] == 0.5
    assert isinstance(found["list"][0], SavedTensor)
    with pytest.raises(CheckpointError, match=r"there is no __\d_0.distcp in it"):
        read_checkpoint(copied, whole=False)
    with pytest.raises(CheckpointError, match=r"there is no __\d_0.distcp in it"):
        saved_in(found)[0].read()


@pytest.mark.parametrize("place", [None, "cpu", torch.device("cpu"), {"cpu": "cpu"}, lambda storage, location: storage])
def test_tensors_go_where_they_are_to(saved_by_two: Path, place: Any) -> None:
    found = read_checkpoint(saved_by_two / "2.ckpt", map_location=place)
    assert [*differences(found, expected(saved_by_two))] == []


def test_tensors_may_go_nowhere(saved_by_two: Path) -> None:
    assert read_checkpoint(saved_by_two / "2.ckpt", map_location="meta")["list"][0].is_meta


@pytest.mark.parametrize("spoil", sorted({*ACCIDENTS}, key=lambda each: each.__name__))
def test_an_accident_is_found_and_the_file_is_named(
    copied: Path, saved_by_two: Path, tmp_path: Path, spoil: Any
) -> None:
    other = Path(shutil.copytree(saved_by_two / "2.ckpt", tmp_path / "other.ckpt"))
    for name in shards_in(other):
        data = bytearray((other / name).read_bytes())
        data[-1] ^= 1  # of another save
        (other / name).write_bytes(data)
    what = spoil(copied, other, random.Random(3))
    for read in (verify, read_checkpoint):
        with pytest.raises(CheckpointError) as raised:
            read(copied)
        named = [name for name in ("state.pt", ".metadata", "manifest.json", ".distcp") if name in str(raised.value)]
        assert named or "no checkpoint" in str(raised.value), (what, raised.value)


@pytest.mark.parametrize("spoil", WORKS)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_in_it_acts(
    copied: Path, saved_by_two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, seed: int
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(copied, saved_by_two / "2.ckpt", random.Random(seed))
    for whole in (True, False):
        try:
            read_checkpoint(copied, whole=whole)
        except CheckpointError as error:
            assert str(copied) in str(error)
    assert "acted" not in os.listdir(tmp_path)


def test_a_part_of_another_form_contradicts_the_manifest(copied: Path) -> None:
    name = shards_in(copied)[0]
    replace_part(copied, name, 0, saved(torch.zeros(2, 2, 2, 2)))
    with pytest.raises(CheckpointError, match="contradicts the manifest"):
        read_checkpoint(copied)


def test_what_is_no_checkpoint(tmp_path: Path, copied: Path) -> None:
    (tmp_path / "a.ckpt").mkdir()
    with pytest.raises(CheckpointError, match=r"it is a folder without a manifest\.json"):
        read_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(CheckpointNotFoundError):
        ShardedFiles(tmp_path / "b.ckpt")


def test_a_second_name_and_a_copy_stay_when_the_first_is_gone(copied: Path, saved_by_two: Path, tmp_path: Path) -> None:
    share_checkpoint(copied, tmp_path / "shared.ckpt")
    copy_checkpoint(copied, tmp_path / "copy.ckpt")
    links = {name: os.stat(copied / name).st_nlink for name in os.listdir(copied)}
    assert set(links.values()) == {2}
    shutil.rmtree(copied)
    for name in ("shared.ckpt", "copy.ckpt"):
        verify(tmp_path / name)
        assert [*differences(read_checkpoint(tmp_path / name), expected(saved_by_two))] == []
    assert sorted(os.listdir(tmp_path)) == ["copy.ckpt", "shared.ckpt"]


def test_the_rights_of_what_is_replaced_stay(copied: Path, tmp_path: Path) -> None:
    private = tmp_path / "private.ckpt"
    private.write_text("a file that only its owner may read")
    private.chmod(0o600)
    copy_checkpoint(copied, private)
    assert private.stat().st_mode & 0o777 == 0o700
    share_checkpoint(copied, private)
    assert private.stat().st_mode & 0o777 == 0o700


def test_the_manifest_names_all_files(copied: Path) -> None:
    assert {*content_of(copied)["files"], "manifest.json"} == {*os.listdir(copied)}
