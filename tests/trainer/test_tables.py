from __future__ import annotations

import pytest

from trainkit.printable import printable
from trainkit.trainer.tables import print_results
from trainkit.types import Stage


@pytest.fixture
def rows(capsys, monkeypatch):
    """Return what was printed since the last call, as the cells of each row."""
    monkeypatch.setenv("COLUMNS", "120")

    def read():
        lines = [line.replace("┃", "│") for line in capsys.readouterr().out.splitlines()]
        return [[cell.strip() for cell in line.strip()[1:-1].split("│")] for line in lines if "│" in line]

    return read


def test_one_loader_has_a_column_of_values(rows):
    print_results([{"loss": 0.123456789, "acc": 1.0}], Stage.TEST)
    assert rows() == [["test metric", "value"], ["loss", "0.123457"], ["acc", "1"]]


def test_several_loaders_have_a_column_each_and_a_gap_where_a_metric_is_missing(rows):
    print_results([{"a": 1.0, "b": 2e-9}, {"c": 3e12, "a": 4.5}], Stage.VALIDATE)
    assert rows() == [
        ["validate metric", "loader 0", "loader 1"],
        ["a", "1", "4.5"],
        ["b", "2e-09", ""],
        ["c", "", "3e+12"],
    ]


@pytest.mark.parametrize("results", [[], [{}], [{}, {}]])
def test_nothing_is_printed_where_nothing_was_logged(capsys, results):
    print_results(results, Stage.TEST)
    assert capsys.readouterr().out == ""


NAMES = ["acc[/x]", "recall[cat]", "[bold]b", ":100:", "a\x1b[2Jb", "50 %\r", "a\nb", "safe\u202egnp", "half \ud800"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_is_and_acts_on_nothing(rows, name):
    print_results([{name: 1.0}], Stage.TEST)
    assert rows()[1:] == [[printable(name), "1"]]
