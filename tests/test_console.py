from __future__ import annotations

import errno
import io
import sys

import pytest
from rich.table import Table

from trainkit.console import cell, show


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_table_is_printed(capsys):
    table = Table("name")
    table.add_row("value")
    show(table)
    assert "value" in capsys.readouterr().out


def test_a_table_that_nobody_reads_does_not_end_the_program(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.warns(UserWarning, match="stdout cannot be written to"):
        show(Table("name"))


def test_what_is_in_a_cell_is_no_markup_and_acts_on_nothing(capsys):
    table = Table("name")
    table.add_row(cell("acc[/x] [red]a[/] :100: \x1b[2J"))
    show(table)
    assert r"acc[/x] [red]a[/] :100: \x1b[2J" in capsys.readouterr().out
