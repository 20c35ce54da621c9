from __future__ import annotations

import pytest

from trainkit.callbacks.progress_bar import lines
from trainkit.callbacks.progress_bar.bar import Bar
from trainkit.callbacks.progress_bar.lines import LineDisplay


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(lines, "monotonic", clock)
    return clock


def bar_at(done, label="Epoch 1/2", total=100):
    return Bar(label, total, done=done, now=0.0)


def test_every_epoch_has_its_line(clock, capsys):
    display = LineDisplay()
    for epoch in (1, 2):
        bar = bar_at(0, f"Epoch {epoch}/2")
        bar.update(100, 10.0)
        display.finish([bar], {"loss": 0.5})
    display.close()
    assert capsys.readouterr().out == (
        "Epoch 1/2: 100/100  0:10  10.0 it/s  loss 0.5\nEpoch 2/2: 100/100  0:10  10.0 it/s  loss 0.5\n"
    )


def test_a_short_epoch_has_no_other_line(clock, capsys):
    display = LineDisplay()
    for done in range(100):
        clock.now = done * 0.09
        display.show([bar_at(done)], {})
    assert capsys.readouterr().out == ""


def test_a_long_epoch_has_a_line_for_each_tenth(clock, capsys):
    display, bar = LineDisplay(), bar_at(0, total=64)
    for done in range(64):
        bar.done, clock.now = done, done * 2.0
        display.show([bar], {})
    printed = [line.split()[2] for line in capsys.readouterr().out.splitlines()]
    assert printed == [f"{done}/64" for done in range(7, 64, 7)]


def test_a_very_long_epoch_has_a_line_each_minute(clock, capsys):
    display, bar = LineDisplay(), bar_at(0, total=1_000_000)
    for second in range(0, 200, 5):
        bar.done, clock.now = second, float(second)
        display.show([bar], {})
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_an_epoch_of_unknown_length_has_a_line_each_minute(clock, capsys):
    display, bar = LineDisplay(), bar_at(0, total=None)
    for second in range(0, 200, 5):
        bar.done, clock.now = second, float(second)
        display.show([bar], {})
    assert capsys.readouterr().out.splitlines()[0] == "Epoch 1/2: 60  0:00"


def test_a_validation_says_in_which_epoch_it_is(clock, capsys):
    display = LineDisplay()
    clock.now = 20.0
    display.show([bar_at(50), bar_at(5, "Validation", 10)], {})
    assert capsys.readouterr().out == "Epoch 1/2, Validation: 5/10  0:00\n"
