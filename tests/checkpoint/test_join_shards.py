from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.storage.sharded.test_writer import written
from trainkit.checkpoint.join_shards import join_shards
from trainkit.errors import CheckpointError, CheckpointNotFoundError
from trainkit.storage.files import read_checkpoint


def test_one_file_is_made(tmp_path: Path) -> None:
    written(tmp_path / "a.ckpt").publish()
    join_shards(tmp_path / "a.ckpt", tmp_path / "new" / "b.ckpt")
    assert (tmp_path / "new" / "b.ckpt").is_file()
    assert read_checkpoint(tmp_path / "new" / "b.ckpt")["x"].tolist() == [0, 1, 2]
    assert sorted(os.listdir(tmp_path)) == ["a.ckpt", "new"]


@pytest.mark.parametrize("name", ["a.ckpt", "a.ckpt/state.pt", "a.ckpt/new"])
def test_it_is_not_written_over_or_into_what_it_is_made_of(tmp_path: Path, name: str) -> None:
    written(tmp_path / "a.ckpt").publish()
    with pytest.raises(CheckpointError, match="Choose another name"):
        join_shards(tmp_path / "a.ckpt", tmp_path / name)
    read_checkpoint(tmp_path / "a.ckpt")


def test_damage_is_found_first(tmp_path: Path) -> None:
    written(tmp_path / "a.ckpt").publish()
    (tmp_path / "a.ckpt" / "state.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"state\.pt in it has 1 bytes"):
        join_shards(tmp_path / "a.ckpt", tmp_path / "b.ckpt")
    with pytest.raises(CheckpointNotFoundError):
        join_shards(tmp_path / "none.ckpt", tmp_path / "b.ckpt")
    assert os.listdir(tmp_path) == ["a.ckpt"]
