"""The checkpoint that a call starts from is found by rank 0, and read by all."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trainkit.callbacks import CSVLogger
from trainkit.checkpoint.locate import Located
from trainkit.errors import CheckpointError
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.starting_checkpoint import continue_loggers, find_checkpoint, read_located


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


def test_loggers_go_on_where_the_checkpoint_was_saved_and_below_the_folder_of_the_trainer(tmp_path):
    first = quiet_trainer(logger=CSVLogger(), default_root_dir=tmp_path)
    first.fit(TinyModule(), TinyData(1))
    checkpoint = first.dump_checkpoint()
    # The file was moved away; the folder is found by what is in it, and only below that of the Trainer.
    for root, goes_on in ((tmp_path, True), (tmp_path / "other", False)):
        trainer = quiet_trainer(logger=CSVLogger(), default_root_dir=root)
        continue_loggers(trainer, str(tmp_path / "kept.ckpt"), checkpoint)
        assert (trainer.logger.log_dir == first.logger.log_dir) is goes_on


def test_a_checkpoint_of_another_program_leaves_loggers_as_they_are(tmp_path):
    trainer = quiet_trainer(logger=CSVLogger(), default_root_dir=tmp_path)
    continue_loggers(trainer, str(tmp_path / "kept.ckpt"), {"state_dict": {}})
    assert trainer.logger.log_dir.startswith(str(tmp_path))
