from __future__ import annotations

import math

import pytest

from trainkit.callbacks.schedule_preview.curve import Curve


def curve(rates, updates=None, stretches=4):
    made = Curve("lr", updates or len(rates), stretches)
    for index, rate in enumerate(rates):
        made.add(index, rate)
    return made


def test_extremes():
    made = curve([0.2, 0.5, 0.5, 0.1, 0.3])
    assert (made.first, made.highest, made.highest_at, made.lowest, made.last) == (0.2, 0.5, 1, 0.1, 0.3)
    assert not made.is_constant
    assert curve([0.2, 0.2]).is_constant


def test_what_floats_lose_is_no_difference():
    made = curve([0.001, 0.001 * (1 + 1e-15), 0.001 * (1 - 1e-15)])
    assert made.is_constant
    assert curve([0.001, 0.0005, 0.001 * (1 + 1e-12), 0.0005 * (1 - 1e-12)]).highest_at == 0
    assert curve([0.0, 1e-30]).highest_at == 1


@pytest.mark.parametrize(
    ("rates", "width", "shares"),
    [
        ([1, 3, 4, 4, 2, 2, 0, 0], 4, [0.5, 1, 0.5, 0]),
        ([1, 3, 4, 4, 2, 2, 0, 0], 2, [0.5, 0.5]),
        ([1, 2], 4, [0.5, 0.5, 1, 1]),
        ([0, 0], 2, [0, 0]),
    ],
)
def test_means_of_stretches_as_shares_of_the_highest(rates, width, shares):
    assert curve(rates).shares(width) == shares


def test_behind_its_end_there_is_nothing():
    one, two = curve([2.0], updates=2).shares(2)
    assert one == 1
    assert math.isnan(two)
