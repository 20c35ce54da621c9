"""The batches of a run on other numbers of ranks: each global batch has the samples that it has where the run began."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, WeightedRandomSampler

from trainkit.data import TensorLoader
from trainkit.data.global_batches import GlobalBatch, deal, sampler_of, why_not
from trainkit.data.sampler import shard

KINDS = ["in order", "shuffled", "weighted", "torch's", "tensors"]


def whole_loader(kind: str, samples: int, size: int, rank: int, ranks: int, drop_last: bool) -> Any:
    data: Any = range(samples)
    if kind == "tensors":
        return TensorLoader(torch.arange(samples), batch_size=size, shuffle=True, drop_last=drop_last)
    sampler: Any = {
        "weighted": WeightedRandomSampler(torch.arange(samples) + 1.0, samples),
        "torch's": DistributedSampler(data, ranks, rank, drop_last=samples % 2 == 0),
    }.get(kind)
    return DataLoader(data, size, shuffle=kind == "shuffled" or None, sampler=sampler, drop_last=drop_last)


def batches_of(loaders: list[Any]) -> list[list[list[int]]]:
    """Return the batches of all ranks, by their place in the epoch."""
    made = []
    for loader in loaders:
        batches = [(batch[0] if isinstance(batch, list) else batch).tolist() for batch in loader]
        assert len(loader) == len(batches), "the length tells how many there are"
        made.append(batches)
    return list(map(list, zip(*made, strict=True)))


@pytest.mark.parametrize("kind", KINDS)
def test_each_global_batch_has_the_same_samples_on_any_number_of_ranks(kind: str):
    draw = random.Random(0)
    for _ in range(60):
        began, ranks, size = draw.randint(2, 4), draw.randint(1, 5), draw.randint(3, 6)
        samples, drop_last, epoch = draw.randint(began * size, 50), draw.random() < 0.5, draw.randint(0, 3)
        expected_from = [
            shard(whole_loader(kind, samples, size, rank, began, drop_last), rank, began, training=True, seed=5)
            for rank in range(began)
        ]
        batch = GlobalBatch(began, size)
        found_from = [
            deal(whole_loader(kind, samples, size, rank, ranks, drop_last), rank, ranks, batch, 5)
            for rank in range(ranks)
        ]
        for loader in (*expected_from, *found_from):
            loader.sampler.set_epoch(epoch)
        expected, found = batches_of(expected_from), batches_of(found_from)
        assert len(found) == len(expected)
        for index, (old, new) in enumerate(zip(expected, found, strict=True)):
            whole = [sample for each in old for sample in each]
            weights = [sampler_of(loader).weight(index) for loader in found_from]
            own = [sample for each, weight in zip(new, weights, strict=True) if weight for sample in each]
            assert Counter(own) == Counter(whole)
            assert sum(weights) == pytest.approx(ranks)
            for each, weight in zip(new, weights, strict=True):
                assert weight == pytest.approx(len(each) * ranks / len(whole)) or (weight == 0 and len(each) == 1)


def test_the_ranks_with_which_it_began_have_what_they_had():
    for rank in range(2):
        loader = whole_loader("shuffled", 27, 4, rank, 2, drop_last=False)
        again = deal(loader, rank, 2, GlobalBatch(2, 4), seed=3)
        before = shard(loader, rank, 2, training=True, seed=3)
        assert [each.tolist() for each in again] == [each.tolist() for each in before]
        assert sampler_of(again).is_even
        assert sampler_of(before) is None


def test_a_run_of_one_process_keeps_the_order_that_it_draws_from_the_global_generator():
    def drawn(loader: Any) -> list[list[int]]:
        torch.manual_seed(4)
        return [each.tolist() for each in loader]

    expected = drawn(DataLoader(range(20), 6, shuffle=True))
    parts = [drawn(deal(DataLoader(range(20), 6, shuffle=True), rank, 2, GlobalBatch(1, 6), 9)) for rank in range(2)]
    assert [sorted(one + other) for one, other in zip(*parts, strict=True)] == [sorted(each) for each in expected]


def test_a_rank_knows_what_other_ranks_have_had():
    loader = deal(DataLoader(range(27), 4, shuffle=True), 0, 3, GlobalBatch(2, 4), seed=3)
    before = [
        [each.tolist() for each in shard(DataLoader(range(27), 4, shuffle=True), r, 2, training=True, seed=3)]
        for r in range(2)
    ]
    for rank in range(2):
        list(loader)
        assert sampler_of(loader).take_batches(rank, 2, 3) == before[rank][:3]


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(9))


class Deals(DistributedSampler[int]):
    pass


class Batches(BatchSampler):
    pass


@pytest.mark.parametrize(
    ("loader", "reason"),
    [
        (DataLoader(Stream(), 2), "nothing in a Stream goes by an index"),
        ([1, 2], "nothing in a list goes by an index"),
        (DataLoader(range(9), batch_sampler=Batches(range(9), 2, False)), "Batches makes whole batches"),
        (DataLoader(range(9), batch_size=None), "a sample is a batch of its own"),
        (DataLoader(range(9), 2, sampler=Deals(range(9), 2, 0)), "Deals deals its samples to ranks in a way"),
    ],
)
def test_what_cannot_be_dealt_anew_says_why(loader: Any, reason: str):
    assert reason in why_not(loader)


@pytest.mark.parametrize("kind", KINDS)
def test_what_can_be_says_nothing(kind: str):
    assert why_not(whole_loader(kind, 9, 2, 0, 2, drop_last=False)) == ""
