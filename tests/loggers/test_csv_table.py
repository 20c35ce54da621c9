from __future__ import annotations

import csv
import errno

import pytest

from trainkit.loggers import csv_table
from trainkit.loggers.csv_table import append_rows, count_rows, replace_rows, rows_behind, size_of


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

    def opens(path, mode="r", **options):
        return Full(open(path, mode, **options)) if mode == "a" else open(path, mode, **options)

    size = size_of(path)
    monkeypatch.setattr(csv_table, "open", opens, raising=False)
    with pytest.raises(OSError, match="full"):
        append_rows(path, [{"step": 5, "a": 1.0}, {"step": 6, "a": 1.0}])
    assert size_of(path) == size


@pytest.mark.parametrize("name", ["50\rOK", "a\nb", "a\r\nb", 'a,b"c', "a\x1b[2J", " a ", "[/x]"])
def test_any_name_comes_back_as_it_was(tmp_path, name):
    path = tmp_path / "metrics.csv"
    append_rows(path, [{"step": 1, "epoch": 0, name: 0.5}])
    append_rows(path, [{"step": 2, "epoch": 0, name: 0.25, "other": 1}])
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row[name] for row in rows] == ["0.5", "0.25"]
    assert count_rows(path) == 2
