"""A run goes on in the folder that has its mark, and in no other that its checkpoint names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from trainkit.callbacks import ModelCheckpoint
from trainkit.loggers import CSVLogger
from trainkit.loggers.run_mark import is_marked, make_mark, marks_in
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Logs(TinyModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("loss", loss)
        return loss


def fit(root: Path, *, epochs: int, dirpath: str = "kept", **arguments: Any) -> Path:
    trainer = quiet_trainer(
        max_epochs=epochs,
        default_root_dir=root,
        enable_checkpointing=True,
        log_every_n_steps=1,
        logger=CSVLogger(version=arguments.pop("version", None)),
        callbacks=[ModelCheckpoint(root / dirpath, save_last=True)],
    )
    trainer.fit(Logs(), TinyData(3), **arguments)
    return Path(trainer.log_dir or "")


def forge(root: Path, **changes: Any) -> Path:
    """Write a checkpoint elsewhere whose author knows all of the run but its marks."""
    checkpoint = read_checkpoint(root / "kept" / "last.ckpt")
    (entry,) = checkpoint["trainkit"]["logged"]
    checkpoint["trainkit"]["logged"] = [{**entry, "written": 0, **changes}]
    checkpoint["trainkit"]["mark"] = "0" * 32
    path = root / "downloaded" / "x.ckpt"
    write_checkpoint(checkpoint, path)
    os.utime(path, (2**31, 2**31))  # the newest of all
    return path


def test_a_folder_has_one_mark(tmp_path: Path) -> None:
    mark = make_mark(str(tmp_path / "new"))
    assert make_mark(str(tmp_path / "new")) == mark
    assert is_marked(str(tmp_path / "new"), mark)
    assert (marks_in(tmp_path / "new"), marks_in(tmp_path), marks_in(tmp_path / "none")) == ([mark], [], [])
    assert not is_marked(str(tmp_path), mark)


@pytest.mark.parametrize("mark", [None, "", 3, "..", "/", "0" * 32, "*" * 32, "\0", [1]])
def test_nothing_else_is_its_mark(tmp_path: Path, mark: object) -> None:
    make_mark(str(tmp_path))
    assert not is_marked(str(tmp_path), mark)


def test_where_no_folder_can_be_made_there_is_no_mark(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert make_mark(str(tmp_path / "file" / "below")) == make_mark("s3://bucket/run") == ""


def test_a_run_whose_checkpoints_are_elsewhere_goes_on_in_its_folder(tmp_path: Path) -> None:
    first = fit(tmp_path, epochs=1)
    assert fit(tmp_path, epochs=2, ckpt_path="last") == first
    assert len((first / "metrics.csv").read_text().splitlines()) == 1 + 2 * 3


@pytest.mark.parametrize("mark", ["", "0" * 32, "../version_0"])
def test_a_folder_that_a_file_only_names_is_not_gone_on_in(tmp_path: Path, mark: str) -> None:
    theirs = fit(tmp_path, epochs=1)
    before = (theirs / "metrics.csv").read_bytes()
    forge(tmp_path, mark=mark)
    assert fit(tmp_path, epochs=3, dirpath="mine", ckpt_path="last") != theirs
    assert (theirs / "metrics.csv").read_bytes() == before


def test_nor_are_its_rows_removed_where_the_user_has_chosen_it(tmp_path: Path) -> None:
    theirs = fit(tmp_path, epochs=1)
    before = (theirs / "metrics.csv").read_text()
    fit(tmp_path, epochs=3, dirpath="mine", version=0, ckpt_path=forge(tmp_path, mark="0" * 32))
    assert (theirs / "metrics.csv").read_text().startswith(before)


def test_the_newest_state_of_another_run_is_not_taken_over(tmp_path: Path) -> None:
    fit(tmp_path, epochs=1)
    before = (tmp_path / "kept" / "last.ckpt").read_bytes()
    forge(tmp_path)
    fit(tmp_path, epochs=3, ckpt_path="last")
    assert (tmp_path / "kept" / "last.ckpt").read_bytes() == before
