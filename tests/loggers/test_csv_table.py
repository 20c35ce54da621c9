from __future__ import annotations

import csv
import errno

import pytest

from trainkit.loggers import csv_table
from trainkit.loggers.csv_table import append_rows, count_rows, replace_rows, rows_behind, size_of
from trainkit.storage.regular import open_own


@pytest.fixture
def path(tmp_path):
    """A table of three rows of training, then one of a test, one of training, and a line of somebody else."""
    path = tmp_path / "metrics.csv"
    append_rows(path, [{"step": 1, "a": 1.0}, {"step": 2, "a": 2.0}, {"step": 3, "a": 3.0}])
    append_rows(path, [{"step": 3, "test": 0.5}], [False])
    append_rows(path, [{"step": 4, "a": 4.0}])
    with open(path, "a", newline="") as file:
        file.write("a note,,,\n")
    return path


def cells(path, *names):
    with open(path, newline="") as file:
        return [tuple(row[name] for name in names) for row in csv.DictReader(file)]


def test_rows_of_training_behind_a_number_are_found(path):
    assert rows_behind(path, 1) == (1, [(2, frozenset("a")), (3, frozenset("a")), (4, frozenset("a"))])
    assert rows_behind(path, 99) == (6, [])
    assert rows_behind(path.with_name("none"), 1) == (0, [])
    assert (count_rows(path), count_rows(path.with_name("none"))) == (6, 0)


def test_new_rows_take_the_place_of_those_that_were_passed(path):
    assert replace_rows(path, 1, 1, [({"step": 2, "a": 2.5}, True)]) == 2
    assert cells(path, "step", "a")[:3] == [("1", "1.0"), ("2", "2.5"), ("3", "3.0")]
    assert replace_rows(path, 2, 2, [({"step": 4, "a": 4.5, "new": 1.0}, True)]) == 5
    assert cells(path, "step", "a", "test", "new") == [
        ("1", "1.0", "", ""),
        ("2", "2.5", "", ""),
        ("3", "", "0.5", ""),
        ("a note", "", "", ""),
        ("4", "4.5", "", "1.0"),
    ]


def test_whose_row_it_is_outlives_a_new_column(path):
    append_rows(path, [{"step": 5, "b": 1.0}])
    assert rows_behind(path, 3)[1] == [(4, frozenset("a")), (5, frozenset("b"))]


def test_rows_that_a_full_disk_took_in_part_are_taken_back(path, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def writelines(self, lines):
            self.file.write(next(iter(lines)))
            self.file.flush()
            raise OSError(errno.ENOSPC, "full")

    def opens(path, mode="rb"):
        return Full(open_own(path, mode)) if mode == "ab" else open_own(path, mode)

    size = size_of(path)
    monkeypatch.setattr(csv_table, "open_own", opens)
    with pytest.raises(OSError, match="full"):
        append_rows(path, [{"step": 5, "a": 1.0}, {"step": 6, "a": 1.0}])
    assert size_of(path) == size


@pytest.mark.parametrize("name", ['a,b"c', "a\x1b[2J", " a ", "[/x]"])
def test_any_name_comes_back_as_it_was(tmp_path, name):
    path = tmp_path / "metrics.csv"
    append_rows(path, [{"step": 1, "epoch": 0, name: 0.5}])
    append_rows(path, [{"step": 2, "epoch": 0, name: 0.25, "other": 1}])
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row[name] for row in rows] == ["0.5", "0.25"]
    assert count_rows(path) == 2


DAMAGED = {
    "superscript": "²,2,3\n".encode(),
    "arabic digit": "٣,1\n".encode(),
    "two minus signs": b"--1,2\n",
    "no number": b"abc,1\n",
    "no whole number": b"5.0,1\n",
    "more digits than int takes": b"9" * 5000 + b",2\n",
    "latin1": b"note \xe9,1\n",
    "zero": b"\0,1\n",
    "open quote": b'note,"a\n',
    "long": b"note," + b"x" * 200_000 + b"\n",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_row_is_nobody_of_ours_and_stays_byte_by_byte(path, kind):
    with open(path, "ab") as file:
        file.write(DAMAGED[kind])
    append_rows(path, [{"step": 5, "a": 5.0}])
    first, rows = rows_behind(path, 4)
    assert (first, rows) == (4, [(4, frozenset("a")), (5, frozenset("a"))])
    replace_rows(path, 4, 2, [({"step": 4, "a": 4.5, "new": 1}, True)])
    assert DAMAGED[kind].rstrip(b"\n") in path.read_bytes()
    assert b"\n4,,4.0" not in path.read_bytes()
    assert count_rows(path) == 7


def test_a_row_with_a_cell_that_is_too_long_to_read_has_a_step(path):
    with open(path, "ab") as file:
        file.write(b"5," + b"x" * 200_000 + b"\n")
    assert rows_behind(path, 4)[1][-1] == (5, frozenset())
