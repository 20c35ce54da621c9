from __future__ import annotations

import math

import pytest

from trainkit.callbacks.schedule_preview.curve import Curve
from trainkit.callbacks.schedule_preview.drawing import drawing
from trainkit.loops.ahead import Ahead


def lines(*rates, step=0, epochs=1, width=27, in_blocks=True, known=True):
    updates = len(rates[0])
    curves = [Curve(f"lr/{index}", updates, width) for index in range(len(rates))]
    for curve, values in zip(curves, rates, strict=True):
        for index, value in enumerate(values):
            curve.add(index, value)
    ahead = Ahead(
        step=step,
        epoch=0,
        batch=0,
        num_batches=updates // epochs if known else None,
        accumulation={0: 1},
        max_epochs=epochs,
        max_steps=math.inf if known else step + updates,
    )
    return list(drawing(curves, ahead, updates, width, in_blocks=in_blocks))


FALLS = [1.0, 0.75, 0.5, 0.25]


def test_a_curve_in_blocks():
    assert lines(FALLS, epochs=2) == [
        "lr/0: starts at 1, its highest, ends at 0.25",
        "    1 │█████",
        "      │█████▆▆▆▆▆",
        "      │██████████▄▄▄▄▄",
        "      │███████████████▂▂▂▂▂",
        "      │████████████████████",
        "    0 └┬─────────┬─────────",
        "  step 0         2        4",
        " epoch 1         2",
    ]


def test_a_curve_in_ascii():
    assert lines(FALLS, epochs=2, in_blocks=False)[1:7] == [
        "    1 |#####",
        "      |#####:::::",
        "      |##########:::::",
        "      |###############.....",
        "      |####################",
        "    0 ++---------+---------",
    ]


def test_what_is_little_is_still_seen():
    assert lines([1.0, 1e-9])[5] == "      │██████████▁▁▁▁▁▁▁▁▁▁"


def test_the_numbers_of_a_curve():
    [told, *_] = lines([0.1, 0.4, 0.05, 0.3], step=1000)
    assert told == "lr/0: starts at 0.1, highest 0.4 at step 1,002, lowest 0.05, ends at 0.3"


def test_curves_of_one_shape_are_drawn_once():
    drawn = lines(FALLS, [2 * rate for rate in FALLS])
    assert [line for line in drawn if line.startswith("lr")] == [
        "lr/0: starts at 1, its highest, ends at 0.25",
        "lr/1: starts at 2, its highest, ends at 0.5",
    ]
    assert sum("└" in line for line in drawn) == 1
    assert drawn[2].startswith(" 100% │")  # each has a height of its own


def test_of_many_rates_of_one_shape_the_extremes_are_told():
    drawn = lines(*[[factor * rate for rate in FALLS] for factor in range(1, 10)])
    assert drawn[6] == "and 3 more of this shape, highest 7 to 9"


def test_of_many_shapes_some_are_only_told():
    drawn = lines(*[[1.0, 1.0 / factor] for factor in range(2, 8)])
    assert sum("└" in line for line in drawn) == 4
    assert sum(line.startswith("lr/") for line in drawn) == 6
    assert sum("step" in line and "lr" not in line for line in drawn) == 1


def test_a_rate_that_stays_is_a_line():
    assert lines([0.5, 0.5]) == ["lr/0: 0.5 throughout"]
    assert lines(*[[0.5]] * 9)[5:] == ["lr/5: 0.5 throughout", "and 3 more that stay as they are"]


def test_a_rate_that_nobody_can_foresee_is_not_drawn():
    curves = [Curve(f"lr/{index}", 2, 1, "it goes by a metric") for index in range(8)]
    for curve in curves:
        curve.add(0, 1.0)
    ahead = Ahead(step=0, epoch=0, batch=0, num_batches=2, accumulation={0: 1}, max_epochs=1, max_steps=2)
    told = list(drawing(curves, ahead, 2, 80, in_blocks=True))
    assert told[0] == "lr/0: not drawn: it goes by a metric"
    assert told[6:] == ["and 2 more that are not drawn"]


def test_ticks_where_epochs_are_unknown_are_equal_parts():
    drawn = lines([1 / (step + 1) for step in range(10)], known=False, step=100, width=47)
    assert drawn[-1].split() == ["step", "100", "102", "104", "106", "108", "110"]


@pytest.mark.parametrize("width", [10, 30, 57, 80, 100])
def test_no_line_is_wider_than_the_terminal(width):
    drawn = lines([1 / (step + 1) for step in range(400)], epochs=8, width=width, step=123_456)
    assert max(map(len, drawn[1:])) <= max(width, 27)


def test_names_cannot_act_on_a_terminal():
    curve = Curve("lr/\x1b[2J", 1, 1)
    curve.add(0, 1.0)
    ahead = Ahead(step=0, epoch=0, batch=0, num_batches=1, accumulation={0: 1}, max_epochs=1, max_steps=1)
    assert "\x1b" not in "".join(drawing([curve], ahead, 1, 80, in_blocks=True))
