"""A file that a run finds under the name of its table, and has not written, keeps each of its bytes."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest

from trainkit.callbacks import CSVLogger
from trainkit.loggers.csv_place import table_in
from trainkit.loggers.run_mark import make_mark
from trainkit.testing import TinyData, TinyModule, quiet_trainer

FOREIGN = {
    "without a last line end": b"my,data\n1,2\n3,4",
    "one line": b"all my notes in one line",
    "old line ends": b"step,epoch\r1,2\r",
    "latin1": b"step,epoch,\xe9\n1,2,3\n",
    "utf-16": "step,epoch\n1,2\n".encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbfstep,epoch\n1,2\n",
    "other columns": b"a,step\n1,abc\n1,5.0\n",
    "a table without a mark": b"step,epoch,a\n1,2,3\n4,5",
    "a long cell": b"step,epoch," + b"x" * 200_000 + b"\n",
}
BY_ITS_HEADER = ("latin1", "a table without a mark")  # what only the mark tells from a table of ours


def fit(root: Path, epochs: int, **arguments: Any) -> Path:
    logger = CSVLogger(root, None, "run")
    trainer = quiet_trainer(
        default_root_dir=root, max_epochs=epochs, logger=logger, enable_checkpointing=True, log_every_n_steps=1
    )
    trainer.fit(TinyModule(), TinyData(2), **arguments)
    return logger.metrics_file


def steps_in(path: Path) -> list[str]:
    with open(path, newline="", encoding="utf-8") as file:
        return [row["step"] for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.parametrize("kind", FOREIGN)
def test_rows_go_beside_a_file_of_somebody_else_in_each_run(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run" / "metrics.csv"
    path.parent.mkdir()
    path.write_bytes(FOREIGN[kind])
    with pytest.warns(UserWarning, match=r"metrics\.csv is left as it is.*metrics-v1\.csv"):
        table = fit(tmp_path, 1)
    with pytest.warns(UserWarning, match=r"metrics\.csv is left as it is"):
        assert fit(tmp_path, 2, ckpt_path="last") == table == path.with_name("metrics-v1.csv")
    assert steps_in(table) == ["1", "2", "3", "4"]
    assert path.read_bytes() == FOREIGN[kind]


@pytest.mark.parametrize("kind", [kind for kind in FOREIGN if kind not in BY_ITS_HEADER])
def test_a_run_goes_on_beside_a_file_that_has_taken_the_place_of_its_table(tmp_path: Path, kind: str) -> None:
    path = fit(tmp_path, 1)
    path.write_bytes(FOREIGN[kind])
    with pytest.warns(UserWarning, match=r"metrics\.csv is left as it is"):
        assert steps_in(fit(tmp_path, 2, ckpt_path="last")) == ["3", "4"]
    assert path.read_bytes() == FOREIGN[kind]


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "hard link", "link to nowhere"])
def test_a_run_does_not_wait_for_a_pipe_and_follows_no_link(tmp_path: Path, kind: str) -> None:
    path, other = fit(tmp_path, 1), tmp_path / "other.csv"
    os.replace(path, other)
    before = other.read_bytes()
    make = {
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "link": lambda: path.symlink_to(other),
        "hard link": lambda: os.link(other, path),
        "link to nowhere": lambda: path.symlink_to("nowhere"),
    }
    make[kind]()
    with pytest.warns(UserWarning, match=r"metrics\.csv is left as it is"):
        table = fit(tmp_path, 2, ckpt_path="last")
    assert table.name == "metrics-v1.csv"
    assert steps_in(table) == ["3", "4"]
    assert other.read_bytes() == before
    assert not (path.parent / "nowhere").exists()


@pytest.mark.parametrize("kind", ["pipe", "link", "foreign"])
def test_what_takes_the_place_of_the_table_in_mid_run_is_not_written_to(tmp_path: Path, kind: str) -> None:
    class Puts(TinyModule):
        def on_train_epoch_end(self) -> None:
            path, other = tmp_path / "run" / "metrics.csv", tmp_path / "other.csv"
            os.replace(path, other)
            if kind == "foreign":
                path.write_bytes(b"my,data\n1,2\n3,4")
            elif kind == "link":
                path.symlink_to(other)
            else:
                os.mkfifo(path)

    trainer = quiet_trainer(
        default_root_dir=tmp_path,
        max_epochs=1,
        logger=CSVLogger(tmp_path, None, "run"),
        enable_checkpointing=True,
        log_every_n_steps=1,
    )
    with pytest.warns(UserWarning, match=r"could not (write|read).*metrics\.csv"):
        trainer.fit(Puts(), TinyData(2))
    assert steps_in(tmp_path / "other.csv") == ["1"]
    if kind == "foreign":
        assert (tmp_path / "run" / "metrics.csv").read_bytes() == b"my,data\n1,2\n3,4"


def test_the_last_name_that_is_taken_decides(tmp_path: Path) -> None:
    assert table_in(tmp_path) == tmp_path / "metrics.csv"
    (tmp_path / "metrics.csv").write_text("step,epoch\n")
    assert table_in(tmp_path) == tmp_path / "metrics-v1.csv"
    (tmp_path / "metrics-v1.csv").write_text("step,epoch\n")
    make_mark(str(tmp_path))
    assert table_in(tmp_path) == tmp_path / "metrics-v1.csv"
    (tmp_path / "metrics-v1.csv").write_text("notes")
    assert table_in(tmp_path) == tmp_path / "metrics-v2.csv"
    (tmp_path / "metrics-v2.csv").touch()
    assert table_in(tmp_path) == tmp_path / "metrics-v2.csv"


def test_a_run_that_fails_at_once_leaves_its_choice_to_the_next(tmp_path: Path) -> None:
    class Fails(TinyModule):
        def on_fit_start(self) -> None:
            make_mark(str(tmp_path / "run"))  # as a logger of another kind does
            raise ZeroDivisionError

    path = tmp_path / "run" / "metrics.csv"
    path.parent.mkdir()
    path.write_bytes(b"step,epoch,a\n1,2,3\n4,5")
    trainer = quiet_trainer(default_root_dir=tmp_path, logger=CSVLogger(tmp_path, None, "run"), max_epochs=1)
    with pytest.warns(UserWarning, match="is left as it is"), pytest.raises(ZeroDivisionError):
        trainer.fit(Fails(), TinyData(2))
    with pytest.warns(UserWarning, match="is left as it is"):
        assert steps_in(fit(tmp_path, 1)) == ["1", "2"]
    assert path.read_bytes() == b"step,epoch,a\n1,2,3\n4,5"
