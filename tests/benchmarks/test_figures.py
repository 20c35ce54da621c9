from __future__ import annotations

from dataclasses import asdict

import pytest

from benchmarks.cases.case import Budget
from benchmarks.figures import Comparison, Spent, Spread, compare


def test_pairs_are_compared_before_the_median_is_taken():
    # The machine was slow in the last pair, for both: the medians alone would differ by 2.
    found = Comparison.of(hand=[10.0, 11.0, 30.0], contender=[11.0, 13.0, 31.0])
    assert found.hand.median == 11.0
    assert found.contender.median == 13.0
    assert found.difference.median == 1.0
    assert found.ratio.median == pytest.approx(1.1)
    assert found.pairs == 3


def test_a_turn_that_was_not_finished_has_no_pair():
    assert Comparison.of(hand=[10.0, 20.0], contender=[11.0]).pairs == 1
    with pytest.raises(ValueError, match="more turns"):
        Comparison.of(hand=[10.0], contender=[])


def test_spread_is_median_and_quartiles():
    assert Spread.of([5.0, 1.0, 2.0, 3.0, 4.0]) == Spread(median=3.0, low=2.0, high=4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_comparison_survives_json():
    found = Comparison.of([1.0, 2.0], [2.0, 3.0])
    assert Comparison.from_dict(asdict(found)) == found


def test_first_pairs_are_left_out_and_seconds_scaled():
    hand, theirs = Spent(cpu=[9.0, 1.0], wall=[9.0, 2.0]), Spent(cpu=[9.0, 3.0], wall=[9.0, 5.0])
    found = compare(hand, theirs, per_second=10.0, warm_up=1)
    assert found["cpu"].difference.median == 20.0
    assert found["wall"].difference.median == 30.0


def test_both_clocks_are_read():
    spent = Spent()
    spent.begin()
    sum(range(100_000))
    spent.end()
    assert len(spent.cpu) == len(spent.wall) == 1
    assert spent.wall[0] > 0


@pytest.mark.parametrize(("budget", "met"), [(("difference", 1.0), True), (("difference", 0.9), False),
                                             (("ratio", 1.5), True), (("ratio", 1.4), False)])  # fmt: skip
def test_budget_limits_a_median(budget, met):
    assert Budget(*budget).is_met(Comparison.of([2.0], [3.0])) is met
