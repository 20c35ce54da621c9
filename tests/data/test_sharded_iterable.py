"""Streams that are dealt to ranks and workers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from trainkit.data import ShardedIterable
from trainkit.data.sampler import is_dealt, shard
from trainkit.errors import DataError


def parts(dataset, world_size, *, training):
    return [list(dataset.part(rank, world_size, training=training)) for rank in range(world_size)]


@given(samples=st.integers(0, 20), world_size=st.integers(1, 4))
def test_each_sample_comes_once_in_evaluation_and_in_training_all_ranks_have_equally_many(samples, world_size):
    dataset = ShardedIterable(range(samples))
    evaluated = parts(dataset, world_size, training=False)
    assert sorted(sample for part in evaluated for sample in part) == list(range(samples))
    trained = parts(dataset, world_size, training=True)
    assert trained == [part[: samples // world_size] for part in evaluated]


def test_what_all_ranks_have_taken_is_a_beginning_of_the_stream():
    first, second = parts(ShardedIterable(range(10)), 2, training=True)
    assert (first[:3], second[:3]) == ([0, 2, 4], [1, 3, 5])


def test_workers_take_parts_of_the_part_of_their_rank():
    loader = DataLoader(ShardedIterable(range(24)), batch_size=3, num_workers=2)
    batches = [[batch.tolist() for batch in shard(loader, rank, 2, training=True)] for rank in range(2)]
    assert batches == [
        [[0, 4, 8], [2, 6, 10], [12, 16, 20], [14, 18, 22]],
        [[1, 5, 9], [3, 7, 11], [13, 17, 21], [15, 19, 23]],
    ]


def test_items_are_read_by_those_who_own_them():
    opened = []

    def read(name):
        opened.append(name)
        return [f"{name}{line}" for line in range(2)]

    assert list(ShardedIterable("abcd", read).part(1, 2, training=True)) == ["b0", "b1", "d0", "d1"]
    assert opened == ["b", "d"]


def test_a_pass_begins_anew_and_the_loader_that_was_given_still_gives_all():
    loader = DataLoader(ShardedIterable(range(4)), batch_size=2)
    part = shard(loader, 1, 2, training=True)
    assert is_dealt(part)
    assert [batch.tolist() for _ in range(2) for batch in part] == [[1, 3]] * 2
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3]]


def test_batches_may_be_dealt_as_well():
    assert list(shard(ShardedIterable(["first batch", "second batch"]), 1, 2, training=True)) == ["second batch"]


def test_what_can_be_gone_through_once_only_is_refused():
    with pytest.raises(DataError, match=r"a generator, which cannot be gone through again"):
        ShardedIterable(number for number in range(3))
