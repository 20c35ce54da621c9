from __future__ import annotations

import io
import re
import sys

import pytest

from trainkit.callbacks.progress_bar.bar import Bar
from trainkit.callbacks.progress_bar.terminal import TerminalDisplay

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
UP, CLEAR_LINE = "\x1b[1A", "\x1b[2K"


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def lines(self):
        """Return what is to be seen at the end, as a terminal understands what was written."""
        lines, row, column = [""], 0, 0
        for code, text in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z]|[\r\n])|([^\x1b\r\n]+)", self.getvalue()):
            if code == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif code == "\r":
                column = 0
            elif code == UP:
                row -= 1
            elif code == CLEAR_LINE:
                lines[row] = ""
            elif text:
                lines[row] = lines[row].ljust(column)[:column] + text + lines[row][column + len(text) :]
                column += len(text)
        return [line.rstrip() for line in lines if line.strip()]


@pytest.fixture
def terminal(monkeypatch):
    """Return a function, to be called in the test itself, since pytest replaces ``sys.stdout`` after fixtures ran."""

    def begin(columns=100):
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "stdout", Terminal())
        return sys.stdout

    return begin


def bar_at(done, label="Epoch 1/2", total=40):
    bar = Bar(label, total, now=0.0)
    bar.update(done, 2.0)
    return bar


def test_bars_and_metrics_are_drawn_over_what_was_drawn_before(terminal):
    screen = terminal()
    display, bar = TerminalDisplay(leave=False), bar_at(20)
    display.show([bar], {"loss": 0.5})
    bar.update(30, 3.0)
    display.show([bar, bar_at(5, "Validation", 10)], {"loss": 0.25})
    display.close()
    epoch, validation, metrics = screen.lines()
    assert epoch.startswith("Epoch 1/2")
    assert epoch.split()[-6:] == ["30/40", "0:03", "<", "0:01", "10.0", "it/s"]
    assert validation.startswith("Validation")
    assert metrics == "loss 0.25"


def test_a_line_of_each_epoch_stays_above_the_bar(terminal):
    screen = terminal()
    display = TerminalDisplay(leave=False)
    display.show([bar_at(1)], {"loss": 0.5})
    display.finish([bar_at(40)], {"loss": 0.1})
    assert "40/40" not in screen.getvalue()  # nothing is drawn until the next drawing is due
    display.show([bar_at(3, "Epoch 2/2")], {"loss": 0.1})
    line, bar, _ = screen.lines()
    assert line == "Epoch 1/2: 40/40  0:02  20.0 it/s  loss 0.1"
    assert bar.split()[-6:] == ["3/40", "0:02", "<", "0:25", "1.50", "it/s"]
    display.finish([bar_at(40, "Epoch 2/2")], {})
    display.close()
    assert screen.lines() == [line, "Epoch 2/2: 40/40  0:02  20.0 it/s"]


def test_an_epoch_that_is_interrupted_stays_as_it_was_drawn_last(terminal):
    screen = terminal()
    display = TerminalDisplay(leave=False)
    display.finish([bar_at(40)], {})
    display.show([bar_at(7, "Epoch 2/2")], {"loss": 0.1})
    display.close()
    line, bar, metrics = screen.lines()
    assert (line[:16], metrics) == ("Epoch 1/2: 40/40", "loss 0.1")
    assert "7/40" in bar


def test_leave_keeps_the_bar_of_each_epoch_once(terminal):
    screen = terminal()
    display = TerminalDisplay(leave=True)
    for epoch in ("Epoch 1/2", "Epoch 2/2"):
        display.show([bar_at(1, epoch)], {})
        display.finish([bar_at(40, epoch)], {})
    display.close()
    assert [line[:9] for line in screen.lines()] == ["Epoch 1/2", "Epoch 2/2"]


def test_what_is_printed_meanwhile_stays_above_the_bars(terminal):
    screen = terminal()
    display = TerminalDisplay(leave=False)
    display.show([bar_at(1)], {})
    print("hello")
    display.show([bar_at(2)], {})
    display.close()
    assert screen.lines()[0] == "hello"
    assert "2/40" in screen.lines()[1]


def test_close_gives_the_terminal_back(terminal):
    screen = terminal()
    display = TerminalDisplay(leave=False)
    display.show([bar_at(1)], {})
    assert sys.stdout is not screen
    display.close()
    display.close()
    assert sys.stdout is screen
    written = screen.getvalue()
    assert written.count(HIDE_CURSOR) == written.count(SHOW_CURSOR) == 1
    assert written.rindex(SHOW_CURSOR) > written.rindex(HIDE_CURSOR)


def test_nothing_is_written_before_there_is_something_to_show(terminal):
    screen = terminal()
    TerminalDisplay(leave=False).close()
    assert screen.getvalue() == ""


@pytest.mark.parametrize("columns", [20, 60, 79, 200])
def test_no_line_is_wider_than_the_terminal(terminal, columns):
    screen = terminal(columns)
    display = TerminalDisplay(leave=False)
    display.show([bar_at(20, "Epoch 100/200", 40_000)], {f"metric{n}": n / 3 for n in range(20)})
    display.close()
    assert max(map(len, screen.lines())) <= columns
    assert "metric19" in "".join(screen.lines())


@pytest.mark.parametrize(("columns", "has_bar"), [(20, False), (50, False), (53, False), (54, True), (60, True)])
def test_a_bar_without_room_gives_way_to_the_numbers(terminal, columns, has_bar):
    screen = terminal(columns)
    display = TerminalDisplay(leave=False)
    display.show([bar_at(20, "Epoch 10/12", 400)], {})
    display.close()
    assert ("━" in screen.lines()[0]) == has_bar
    assert "20/400" in screen.lines()[0]


def test_an_unknown_length_is_drawn_too(terminal):
    screen = terminal()
    display = TerminalDisplay(leave=False)
    display.show([bar_at(20, total=None)], {})
    display.close()
    assert screen.lines()[0].split()[-4:] == ["20", "0:02", "10.0", "it/s"]


@pytest.mark.parametrize("columns", [50, 60, 61, 62, 100])
def test_no_line_is_broken_between_a_name_and_its_value(terminal, columns):
    screen = terminal(columns)
    values = {"train/loss": 0.9397, "val/acc": 0.8754, "lr/Muon": 0.006031, "lr/AdamW": 0.0003015, "val/loss": 0.5}
    display = TerminalDisplay(leave=False)
    display.show([bar_at(1)], values)
    display.finish([bar_at(40)], values)
    display.show([bar_at(1, "Epoch 2/2")], values)
    texts = [f"{name} {value:.4g}" for name, value in values.items()]
    lines = screen.lines()
    assert all(sum(text in line for line in lines) == 2 for text in texts)  # in the line that remains, and below
    assert max(map(len, lines)) <= columns
