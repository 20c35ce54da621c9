from __future__ import annotations

import torch

from trainkit.metrics.ranks import reduce_over_ranks
from trainkit.metrics.running import Running


def runnings(rank):
    """Rank 0 saw three samples, rank 1 one."""
    made = []
    for reduce_fx in ("min", "mean", "sum", "max", "mean"):
        running = Running(reduce_fx)
        running.add(torch.tensor(1.0 + rank.rank), 3 - 2 * rank.rank)
        made.append(running)
    return made


def test_sums_and_weights_are_reduced_and_not_means(on_ranks):
    for values in on_ranks(2, lambda rank: [v.item() for v in reduce_over_ranks(runnings(rank), rank)]):
        assert values == [1.0, 1.25, 3.0, 2.0, 1.25]


def test_one_collective_serves_all_means_and_sums(on_ranks):
    def collectives(rank):
        reduce_over_ranks(runnings(rank), rank)
        return rank.collectives

    assert on_ranks(2, collectives) == [["sum", "min", "max"]] * 2


def test_a_rank_without_data_counts_for_nothing(on_ranks):
    def values(rank):
        made = [Running(reduce_fx) for reduce_fx in ("mean", "sum", "min", "max")]
        if rank.rank == 0:
            for running in made:
                running.add(-5.0, 2)
        return [value.item() for value in reduce_over_ranks(made, rank)]

    assert on_ranks(2, values) == [[-5.0] * 4] * 2


def test_nothing_to_reduce_needs_no_collective(on_ranks):
    assert on_ranks(2, lambda rank: (reduce_over_ranks([], rank), rank.collectives)) == [([], [])] * 2
