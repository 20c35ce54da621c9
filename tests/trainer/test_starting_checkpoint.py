"""The checkpoint that a call starts from is found by rank 0, and read by all."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trainkit.checkpoint.locate import Located
from trainkit.errors import CheckpointError
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.starting_checkpoint import find_checkpoint, read_located


@pytest.fixture
def saved(tmp_path):
    trainer = quiet_trainer()
    trainer.fit(TinyModule(), TinyData(2))
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    return tmp_path / "two.ckpt"


def test_a_rank_that_does_not_look_goes_by_what_rank_0_has_found(tmp_path):
    def of_rank_0(look):
        return "found/by/rank_0.ckpt"

    other = SimpleNamespace(
        checkpoint_callback=None, checkpoint_roots=[tmp_path], strategy=SimpleNamespace(agreed=of_rank_0)
    )
    assert find_checkpoint(other, "last", resumes=True) == Located("found/by/rank_0.ckpt")


def test_none_starts_fresh():
    assert find_checkpoint(quiet_trainer(), None, resumes=True) is None


def test_what_was_found_is_read(saved):
    located = find_checkpoint(quiet_trainer(), saved, resumes=True)
    assert located.path == str(saved)
    assert read_located(located)["global_step"] == 2


def test_what_was_read_to_be_chosen_is_not_read_again():
    with pytest.raises(CheckpointError, match=r"no\.ckpt"):
        read_located(Located("no.ckpt", {"a": 1}))
