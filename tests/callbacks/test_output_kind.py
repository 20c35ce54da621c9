from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from trainkit.callbacks.output_kind import output_kind


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_terminal_is_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert output_kind() == "terminal"


def test_files_pipes_and_dumb_terminals_are_text(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert output_kind() == "text"
    monkeypatch.setattr(sys, "stdout", None)
    assert output_kind() == "text"
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert output_kind() == "text"
    sys.stdout.close()
    assert output_kind() == "text"


def test_a_file_stays_a_file_where_colours_are_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert output_kind() == "text"


@pytest.mark.parametrize(("shell", "expected"), [(SimpleNamespace(kernel=1), "notebook"), (SimpleNamespace(), "text")])
def test_a_notebook_is_where_a_shell_has_a_kernel(monkeypatch, shell, expected):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert output_kind() == expected
