from __future__ import annotations

import math

import pytest
import torch

from trainkit.metrics.ranks import reduce_over_ranks, totals_of
from trainkit.metrics.running import Running

ALL = ("min", "mean", "sum", "max", "mean")


def runnings(rank: int) -> list[Running]:
    """Rank 0 saw three samples, rank 1 one."""
    made = []
    for number, reduce_fx in enumerate(ALL):
        running = Running(reduce_fx)
        running.add(torch.tensor(1.0 + rank) if number % 2 else 1.0 + rank, 3 - 2 * rank)
        made.append(running)
    return made


def reduced(*ranks):
    """Return the values of names that ranks have given the totals of, rank by rank."""
    return [value.item() for value in reduce_over_ranks(ALL, list(zip(*ranks, strict=True)), torch.device("cpu"))]


def test_sums_and_weights_are_reduced_and_not_means():
    assert reduced(totals_of(runnings(0)), totals_of(runnings(1))) == [1.0, 1.25, 3.0, 2.0, 1.25]


def test_totals_are_plain_numbers_whatever_was_logged():
    assert totals_of(runnings(0)) == [(1.0, 3), (3.0, 3), (1.0, 3), (1.0, 3), (3.0, 3)]


@pytest.mark.parametrize("nothing", [[None] * 5, totals_of([Running(reduce_fx) for reduce_fx in ALL])])
def test_a_rank_without_data_counts_for_nothing(nothing):
    alone = totals_of(runnings(0))
    assert reduced(nothing, alone) == reduced(alone, nothing) == [1.0, 1.0, 1.0, 1.0, 1.0]


def test_a_nan_of_one_rank_is_not_lost():
    assert all(math.isnan(value) for value in reduced([(math.nan, 1.0)] * 5, [(1.0, 1.0)] * 5))


def test_what_nobody_has_a_weight_for_is_no_number():
    assert math.isnan(reduced(totals_of([Running(reduce_fx) for reduce_fx in ALL]))[1])


def test_values_are_as_wide_as_the_device_has_them():
    (value,) = reduce_over_ranks(["sum"], [[(0.1, 1.0)]], torch.device("cpu"))
    assert (value.dtype, value.shape) == (torch.float64, ())
