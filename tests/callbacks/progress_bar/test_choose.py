from __future__ import annotations

import io
import sys

import pytest

from trainkit.callbacks.progress_bar.choose import open_display


@pytest.mark.parametrize(("is_terminal", "expected"), [(True, "TerminalDisplay"), (False, "LineDisplay")])
def test_the_display_suits_the_output(monkeypatch, is_terminal, expected):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stdout = io.StringIO()
    stdout.isatty = lambda: is_terminal
    monkeypatch.setattr(sys, "stdout", stdout)
    assert type(open_display(leave=False)).__name__ == expected
