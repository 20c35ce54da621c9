from __future__ import annotations

import random
from itertools import chain, zip_longest

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from trainkit.data.combined import CombinedLoader
from trainkit.data.sampler import ShardedSampler, is_shard, shard
from trainkit.errors import DataError
from trainkit.seed import rng_state, same_rng_state

sizes = st.integers(1, 40)
ranks = st.integers(1, 5)


def indices(loader):
    """The samples of each batch."""
    return [batch.tolist() for batch in loader]


def parts(loader, world_size, *, training, seed=0, epoch=0):
    """What each rank gets."""
    dealt = []
    for rank in range(world_size):
        part = shard(loader, rank, world_size, training=training, seed=seed)
        for sampler in (part.sampler, part.batch_sampler):
            if isinstance(sampler, ShardedSampler):
                sampler.set_epoch(epoch)
        # Ranks have generators of their own, which must not matter.
        torch.manual_seed(rank)
        random.seed(rank)
        np.random.seed(rank)
        dealt.append(indices(part))
    return dealt


def interleaved(dealt):
    """The samples of all ranks, round by round."""
    rounds = zip_longest(*[[index for batch in batches for index in batch] for batches in dealt])
    return [index for round_ in rounds for index in round_ if index is not None]


class OwnBatches:
    """A batch sampler of the user's."""

    def __init__(self, batches, shuffle=False):
        self.batches = batches
        self.shuffle = shuffle

    def __iter__(self):
        order = np.random.permutation(len(self.batches)) if self.shuffle else range(len(self.batches))
        return iter([self.batches[index] for index in order])

    def __len__(self):
        return len(self.batches)


# Promises for all sizes


@given(size=sizes, world_size=ranks, batch_size=st.integers(1, 6))
def test_evaluation_sees_every_sample_exactly_once_in_the_order_of_the_dataset(size, world_size, batch_size):
    loader = DataLoader(range(size), batch_size=batch_size)
    assert interleaved(parts(loader, world_size, training=False)) == list(range(size))


@given(size=sizes, world_size=ranks, batch_size=st.integers(1, 6), drop_last=st.booleans(), shuffle=st.booleans())
def test_training_gives_every_rank_the_same_number_of_batches(size, world_size, batch_size, drop_last, shuffle):
    loader = DataLoader(range(size), batch_size=batch_size, drop_last=drop_last, shuffle=shuffle)
    dealt = parts(loader, world_size, training=True)
    assert len({len(batches) for batches in dealt}) == 1
    lengths = {len(shard(loader, rank, world_size, training=True)) for rank in range(world_size)}
    assert lengths == {len(dealt[0])}
    seen = interleaved(dealt)
    if drop_last:
        assert len(seen) == len(set(seen))
    else:
        assert set(seen) == set(range(size))
        assert len(seen) == -(-size // world_size) * world_size


@given(size=sizes, world_size=ranks, epoch=st.integers(0, 3))
def test_ranks_share_one_permutation_of_which_they_consume_a_prefix(size, world_size, epoch):
    loader = DataLoader(range(size), shuffle=True)
    dealt = interleaved(parts(loader, world_size, training=False, seed=7, epoch=epoch))
    alone = interleaved(parts(loader, 1, training=False, seed=7, epoch=epoch))
    assert dealt == alone, "another number of ranks must continue where this one stopped"


@given(global_batches=st.integers(1, 6))
def test_global_batches_do_not_depend_on_the_number_of_ranks(global_batches):
    def global_sets(world_size):
        loader = DataLoader(range(12 * global_batches), batch_size=12 // world_size, shuffle=True)
        dealt = parts(loader, world_size, training=True)
        return [sorted(chain.from_iterable(batches)) for batches in zip(*dealt, strict=True)]

    assert global_sets(1) == global_sets(2) == global_sets(3)


@given(size=sizes, world_size=ranks, tail=st.sampled_from(["pad", "drop", "keep"]))
def test_a_part_is_as_long_as_it_says(size, world_size, tail):
    dealt = [ShardedSampler(range(size), rank, world_size, tail) for rank in range(world_size)]
    assert [len(part) for part in dealt] == [len(list(part)) for part in dealt]


# Samplers of all kinds


class ShufflesWithPython(Sampler):
    def __iter__(self):
        return iter(random.sample(range(6), 6))

    def __len__(self):
        return 6


@pytest.mark.parametrize(
    "sampler",
    [WeightedRandomSampler([1.0, 2.0, 3.0] * 4, 9), SubsetRandomSampler([1, 3, 5, 7]), ShufflesWithPython()],
    ids=lambda sampler: type(sampler).__name__,
)
def test_any_sampler_is_dealt_in_one_order_on_all_ranks(sampler):
    loader = DataLoader(range(12), sampler=sampler, batch_size=2)
    assert interleaved(parts(loader, 3, training=False)) == interleaved(parts(loader, 1, training=False))


def test_a_batch_sampler_of_the_user_is_dealt_in_whole_batches():
    batches = [[0, 1], [2], [3, 4, 5], [6, 7], [8]]
    loader = DataLoader(range(9), batch_sampler=OwnBatches(batches))
    assert parts(loader, 2, training=False) == [batches[0::2], batches[1::2]]
    assert parts(loader, 2, training=True) == [batches[0::2], [*batches[1::2], batches[0]]]
    shuffled = DataLoader(range(9), batch_sampler=OwnBatches(batches, shuffle=True))
    first, second = parts(shuffled, 2, training=False)
    assert sorted(first + second) == batches


def test_a_plain_batch_sampler_that_was_passed_in_keeps_its_sampler():
    sampler = BatchSampler(SubsetRandomSampler([2, 4, 6, 8]), batch_size=2, drop_last=False)
    loader = DataLoader(range(9), batch_sampler=sampler)
    assert sorted(interleaved(parts(loader, 2, training=False))) == [2, 4, 6, 8]


def test_a_loader_without_batching_is_dealt_sample_by_sample():
    assert parts(DataLoader(torch.arange(5), batch_size=None), 2, training=False) == [[0, 2, 4], [1, 3]]


def test_epochs_are_shuffled_differently_and_the_same_again():
    loader = DataLoader(range(30), shuffle=True)
    orders = [parts(loader, 2, training=True, epoch=epoch) for epoch in (0, 1, 0)]
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    assert orders[0] != parts(loader, 2, training=True, seed=1)


def test_the_sampler_underneath_is_told_the_epoch():
    class ByEpoch(ShufflesWithPython):
        epoch = 0

        def set_epoch(self, epoch):
            self.epoch = epoch

    inner = ByEpoch()
    ShardedSampler(inner, 0, 2, "pad").set_epoch(3)
    ShardedSampler(BatchSampler(inner, 2, False), 0, 2, "pad").set_epoch(4)
    assert inner.epoch == 4


def test_dealing_draws_nothing_that_training_would_see():
    part = shard(DataLoader(range(9), sampler=ShufflesWithPython()), 0, 2, training=True)
    before = rng_state()
    list(part.sampler)
    assert same_rng_state(before, rng_state())


# What is dealt, and what is not


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(Stream()),
        [1, 2, 3],
        DataLoader(range(4), sampler=DistributedSampler(range(4), num_replicas=2, rank=0)),
        DataLoader(
            range(4),
            batch_sampler=BatchSampler(DistributedSampler(range(4), num_replicas=2, rank=0), 2, False),
        ),
    ],
    ids=["iterable dataset", "list", "distributed sampler", "distributed batch sampler"],
)
def test_what_has_no_sampler_or_is_dealt_already_is_left_alone(loader):
    assert shard(loader, 0, 2, training=True) is loader
    assert not is_shard(loader)


def test_dealing_twice_deals_once():
    part = shard(DataLoader(range(8)), 0, 2, training=True)
    assert is_shard(part)
    assert shard(part, 0, 2, training=True) is part


def test_every_loader_of_a_combined_one_is_dealt():
    combined = CombinedLoader({"a": DataLoader(range(4)), "b": DataLoader(range(10, 14))}, "min_size")
    part = shard(combined, 1, 2, training=True)
    assert [{name: x.item() for name, x in batch.items()} for batch in part.batches()] == [
        {"a": 1, "b": 11},
        {"a": 3, "b": 13},
    ]


def test_the_loader_that_was_passed_is_not_changed():
    loader = DataLoader(range(4))
    shard(loader, 0, 2, training=True)
    assert indices(loader) == [[0], [1], [2], [3]]


def test_an_empty_loader_and_one_without_length_are_errors():
    with pytest.raises(DataError, match="SequentialSampler is empty.*2 ranks"):
        shard(DataLoader([]), 0, 2, training=True)
    endless = DataLoader(range(4), sampler=iter([0, 1]))
    with pytest.raises(DataError, match="has no length"):
        shard(endless, 0, 2, training=True)
