from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from trainkit.errors import CheckpointError, CheckpointWriteError
from trainkit.storage.files import read_checkpoint
from trainkit.storage.sharded.writer import ShardedWrite

CONTENT = {"epoch": 1, "x": torch.arange(3)}


def written(path: Path) -> ShardedWrite:
    """Return what one process has written for ``path``, of a state in which nothing is sharded."""
    write = ShardedWrite(CONTENT, rank=0)
    write.settle([write.plan(write.begin(path))])
    write.collect([write.write()])
    return write


def test_it_is_there_when_it_is_published_and_not_before(tmp_path: Path) -> None:
    write = written(tmp_path / "new" / "a.ckpt")
    assert not (tmp_path / "new" / "a.ckpt").exists()
    write.publish()
    assert os.listdir(tmp_path / "new") == ["a.ckpt"]
    assert read_checkpoint(tmp_path / "new" / "a.ckpt")["x"].tolist() == [0, 1, 2]
    write.discard()
    assert (tmp_path / "new" / "a.ckpt").exists()


def test_what_is_discarded_leaves_nothing(tmp_path: Path) -> None:
    write = written(tmp_path / "a.ckpt")
    assert os.listdir(tmp_path) != []
    write.discard()
    assert os.listdir(tmp_path) == []


def test_what_another_rank_has_not_written_is_found_out(tmp_path: Path) -> None:
    from trainkit.storage.sharded.distributed import Written

    write = written(tmp_path / "a.ckpt")
    write.collect([Written("__1_0.distcp", [], [])])
    with pytest.raises(CheckpointWriteError, match="No such file"):
        write.publish()
    assert os.listdir(tmp_path) == []


def test_what_is_not_storable_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"x: builtins\.object"):
        ShardedWrite({"x": object()}, rank=0).begin(tmp_path / "a.ckpt")
    assert os.listdir(tmp_path) == []


def test_leftovers_of_the_dead_are_deleted_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    dead = written(tmp_path / "a.ckpt")
    living = written(tmp_path / "a.ckpt")
    assert len(os.listdir(tmp_path)) == 2
    # The lock goes with the process, and the descriptor is all that holds it.
    assert dead._state is not None
    dead._state.close()
    written(tmp_path / "b.ckpt").publish()
    assert len(os.listdir(tmp_path)) == 2
    living.publish()
    assert sorted(os.listdir(tmp_path)) == ["a.ckpt", "b.ckpt"]
