from __future__ import annotations

import csv
import errno
import os
import re

import pytest

from trainkit.callbacks import CSVLogger
from trainkit.errors import ConfigError, LogWriteError
from trainkit.loggers.csv_table import append_rows, replace_rows
from trainkit.loggers.run_mark import NAME
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def rows_in(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def logger(tmp_path):
    return CSVLogger(tmp_path, flush_logs_every_n_steps=10)


def test_each_row_is_a_line_with_step_and_epoch_first(tmp_path):
    path = tmp_path / "metrics.csv"
    append_rows(path, [{"loss": 0.1, "step": 1}, {"step": 2, "epoch": 0, "loss": 0.25}])
    assert path.read_text() == "step,epoch,loss\n1,,0.1\n2,0,0.25\n"


def test_a_number_loses_no_digit(tmp_path):
    path = tmp_path / "metrics.csv"
    append_rows(path, [{"step": 1, "x": 1 / 3, "y": float("nan"), "z": 1e-300}])
    (row,) = rows_in(path)
    assert (float(row["x"]), row["y"], float(row["z"])) == (1 / 3, "nan", 1e-300)


def test_new_columns_join_and_no_row_is_lost(tmp_path):
    path = tmp_path / "metrics.csv"
    append_rows(path, [{"step": 1, "a": 1.0}])
    append_rows(path, [{"step": 2, "b,c": 2.0}, {"step": 3, "a": 3.0, "d": 4.0}])
    append_rows(path, [{"step": 4, "a": 5.0}])
    assert path.read_text().splitlines() == [
        'step,epoch,a,"b,c",d',
        "1,,1.0,,",
        "2,,,2.0,",
        "3,,3.0,,4.0",
        "4,,5.0,,",
    ]
    assert os.listdir(tmp_path) == ["metrics.csv"]


def test_a_failure_while_columns_join_leaves_the_old_table(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    append_rows(path, [{"step": 1, "a": 1.0}])
    before = path.read_bytes()

    def fails(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="No space"):
        append_rows(path, [{"step": 2, "b": 1.0}])
    assert path.read_bytes() == before


@pytest.mark.parametrize("rest", ["3", "3,0,0.1", ""])
def test_a_line_that_was_cut_off_by_a_kill_is_dropped(tmp_path, rest):
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,a\n1,0,1.0\n" + rest)
    append_rows(path, [{"step": 2, "epoch": 0, "a": 2.0}])
    assert path.read_text() == "step,epoch,a\n1,0,1.0\n2,0,2.0\n"


@pytest.mark.parametrize("text", ["step,ep", "a,b\n1,2", "a,b\n1,2\n", "\ufeffstep,epoch\n", "step,epoch,a,a\n"])
def test_what_has_no_header_of_a_table_is_left_alone(tmp_path, text):
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    for write in (append_rows, lambda path, rows: replace_rows(path, 0, 0, [(row, True) for row in rows])):
        with pytest.raises(OSError, match="does not begin as a table"):
            write(path, [{"step": 2, "a": 2.0}])
    assert path.read_text() == text


def test_an_empty_file_becomes_a_table(tmp_path):
    path = tmp_path / "metrics.csv"
    path.touch()
    append_rows(path, [{"step": 2, "a": 2.0}])
    assert path.read_text() == "step,epoch,a\n2,,2.0\n"


def test_the_first_row_is_written_at_once_and_later_ones_in_groups(logger):
    logger.log_metrics({"a": 1.0}, 3)
    assert len(rows_in(logger.metrics_file)) == 1
    logger.log_metrics({"a": 2.0}, 12)
    assert len(rows_in(logger.metrics_file)) == 1
    logger.log_metrics({"a": 3.0}, 13)
    assert [row["step"] for row in rows_in(logger.metrics_file)] == ["3", "12", "13"]


@pytest.mark.parametrize("write", [CSVLogger.save, lambda logger: logger.finalize("failed")])
def test_nothing_waits_after_save_and_finalize(logger, write):
    logger.log_metrics({"a": 1.0}, 1)
    logger.log_metrics({"a": 2.0}, 2)
    write(logger)
    assert [row["a"] for row in rows_in(logger.metrics_file)] == ["1.0", "2.0"]
    write(logger)
    assert len(rows_in(logger.metrics_file)) == 2


def test_a_second_logger_of_the_version_continues_its_table(tmp_path):
    for step in (1, 2):
        logger = CSVLogger(tmp_path, version=0)
        logger.log_metrics({f"m{step}": 1.0}, step)
        logger.finalize("success")
    assert [(row["step"], row["m1"], row["m2"]) for row in rows_in(logger.metrics_file)] == [
        ("1", "1.0", ""),
        ("2", "", "1.0"),
    ]


def test_rows_that_cannot_be_written_name_the_file_and_are_kept(logger, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    logger.log_metrics({"a": 1.0}, 1)
    monkeypatch.setattr("trainkit.loggers.csv.append_rows", full)
    with pytest.raises(LogWriteError, match=f"{re.escape(str(logger.metrics_file))}.*No space"):
        logger.log_metrics({"a": 2.0}, 11)
    monkeypatch.undo()
    logger.save()
    assert [row["step"] for row in rows_in(logger.metrics_file)] == ["1", "11"]


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_a_number_of_steps_that_cannot_be_is_refused(steps):
    with pytest.raises(ConfigError, match="flush_logs_every_n_steps"):
        CSVLogger("logs", flush_logs_every_n_steps=steps)


def test_a_fit_leaves_its_curves(tmp_path):
    trainer = quiet_trainer(logger=CSVLogger(tmp_path), max_epochs=2, log_every_n_steps=1)
    trainer.fit(TinyModule(), TinyData(2), TinyData(2, seed=1))
    rows = rows_in(trainer.loggers[0].metrics_file)
    assert [(row["step"], row["epoch"]) for row in rows if row["train/loss"]] == [
        ("1", "0"),
        ("2", "0"),
        ("3", "1"),
        ("4", "1"),
    ]
    assert [(row["step"], row["epoch"]) for row in rows if row["val/loss"]] == [("2", "0"), ("4", "1")]
    assert float(rows[-1]["val/loss"]) == trainer.callback_metrics["val/loss"].item()


def test_rows_behind_those_that_were_written_can_be_cut_off(logger):
    logger.log_metrics({"a": 1.0}, 1)
    logger.log_metrics({"a": 2.0}, 2)
    written = logger.written()
    logger.log_metrics({"a": 3.0, "b": 4.0}, 2)
    logger.save()
    assert (written, logger.written()) == (2, 3)
    logger.cut_back(written)
    assert len(rows_in(logger.metrics_file)) == 3
    logger.log_metrics({"a": 5.0}, 3)
    assert logger.written() == 3
    assert [(row["step"], row["a"], row["b"]) for row in rows_in(logger.metrics_file)] == [
        ("1", "1.0", ""),
        ("2", "2.0", ""),
        ("3", "5.0", ""),
    ]
    assert [name for name in os.listdir(logger.log_dir) if not name.startswith(NAME)] == ["metrics.csv"]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a\x1b[2J", r"a\x1b[2J"),
        ("50\rOK", r"50\rOK"),
        ("a\nb", r"a\nb"),
        ("=cmd()", "=cmd()"),
        ('a,b"c', 'a,b"c'),
        (" a ", " a "),
        ("[/x]", "[/x]"),
    ],
)
def test_a_name_comes_back_with_what_acts_written_out(logger, name, written):
    logger.log_metrics({name: 0.5}, 1)
    count = logger.written()
    logger.log_metrics({name: 0.25, "other": "two\nlines"}, 2)
    logger.save()
    assert [row[written] for row in rows_in(logger.metrics_file)] == ["0.5", "0.25"]
    assert "\x1b" not in logger.metrics_file.read_text()
    # A run that goes on knows the row again.
    logger.cut_back(count)
    logger.log_metrics({name: 0.75, "other": 1}, 2)
    logger.save()
    assert [row[written] for row in rows_in(logger.metrics_file)] == ["0.5", "0.75"]


def test_rows_of_an_earlier_session_count(logger, tmp_path):
    logger.log_metrics({"a": 1.0}, 1)
    logger.finalize("success")
    later = CSVLogger(tmp_path, version=logger.version)
    assert later.written() == 1
    later.log_metrics({"a": 2.0}, 2)
    assert later.written() == 2


def test_half_a_line_that_a_kill_left_is_cut_off_too(logger):
    logger.log_metrics({"a": 1.0}, 1)
    written = logger.written()
    with open(logger.metrics_file, "a") as file:
        file.write("2,,0.")
    logger.cut_back(written)
    logger.log_metrics({"a": 2.0}, 2)
    logger.save()
    assert [row["a"] for row in rows_in(logger.metrics_file)] == ["1.0", "2.0"]


def test_where_nothing_was_written_there_is_nothing_to_cut(logger):
    assert logger.written() == 0
    logger.cut_back(0)
    assert not os.path.exists(logger.log_dir)
