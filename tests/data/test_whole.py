from __future__ import annotations

import random

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

from trainkit.data import CombinedLoader, TensorLoader
from trainkit.data.whole import with_all_samples


class Stream(IterableDataset):
    def __init__(self, length):
        self.length = length

    def __iter__(self):
        return iter(range(self.length))


class InPairs(BatchSampler):
    pass


class Reversed(list):
    """A sampler without anything but an order."""


def drawn_loader(draw, num_samples, drop_last=True):
    size, shuffle = draw.randint(1, num_samples + 2), draw.random() < 0.5
    kind = draw.choice(["map", "stream", "tensors", "sampler", "batch_sampler"])
    if kind == "stream":
        return DataLoader(Stream(num_samples), batch_size=size, drop_last=drop_last)
    if kind == "tensors":
        return TensorLoader(torch.arange(num_samples), batch_size=size, shuffle=shuffle, drop_last=drop_last)
    if kind == "sampler":
        order = Reversed(reversed(range(num_samples)))
        return DataLoader(range(num_samples), batch_size=size, sampler=order, drop_last=drop_last)
    if kind == "batch_sampler":
        sampler = BatchSampler(SequentialSampler(range(num_samples)), size, drop_last)
        return DataLoader(range(num_samples), batch_sampler=sampler)
    return DataLoader(range(num_samples), batch_size=size, shuffle=shuffle, drop_last=drop_last)


def samples(loader):
    batches = [batch[0] if isinstance(batch, list) else batch for batch in loader]
    return torch.cat(batches).tolist() if batches else []


@pytest.mark.parametrize("seed", range(50))
def test_no_sample_is_left_out(seed):
    draw = random.Random(seed)
    num_samples = draw.randint(1, 11)
    loader = drawn_loader(draw, num_samples)
    before = len(samples(loader))
    whole = with_all_samples(loader)
    assert sorted(samples(whole)) == list(range(num_samples))
    assert len(samples(loader)) == before


@pytest.mark.parametrize("seed", range(10))
def test_a_loader_that_leaves_nothing_out_is_not_copied(seed):
    loader = drawn_loader(random.Random(seed), 7, drop_last=False)
    assert with_all_samples(loader) is loader


def test_the_order_is_the_same():
    torch.manual_seed(0)
    expected = samples(DataLoader(range(10), batch_size=4, shuffle=True))
    torch.manual_seed(0)
    assert samples(with_all_samples(DataLoader(range(10), batch_size=4, shuffle=True, drop_last=True))) == expected


def test_each_of_several_is_looked_at():
    loaders = [DataLoader(range(5), batch_size=2, drop_last=True), DataLoader(range(3), batch_size=2, drop_last=True)]
    combined = with_all_samples(CombinedLoader(loaders, "sequential"))
    assert [len(loader) for loader in combined.flattened] == [3, 2]


def test_a_batch_sampler_of_ones_own_decides_and_is_told():
    loader = DataLoader(range(5), batch_sampler=InPairs(SequentialSampler(range(5)), 2, drop_last=True))
    with pytest.warns(UserWarning, match="InPairs has drop_last=True"):
        assert with_all_samples(loader) is loader


def test_anything_else_is_used_as_it_is():
    batches = [torch.zeros(2)]
    assert with_all_samples(batches) is batches
    single = DataLoader(range(3), batch_size=None)
    assert with_all_samples(single) is single
