from __future__ import annotations

import math

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, TensorDataset

from trainkit.data import TensorLoader
from trainkit.data.batch_sizes import BatchSizes, batch_sizes

ROWS = torch.arange(10)
DATASET = TensorDataset(ROWS)


class Numbers(IterableDataset):
    def __iter__(self):
        return iter(ROWS)


class OwnBatches(BatchSampler):
    """May make batches of any size."""


@pytest.mark.parametrize(
    ("loader", "sizes"),
    [
        (TensorLoader(ROWS, batch_size=4), BatchSizes(4, 10)),
        (DataLoader(DATASET, batch_size=4), BatchSizes(4, 10)),
        (DataLoader(DATASET, batch_sampler=BatchSampler(range(6), 4, drop_last=False)), BatchSizes(4, 6)),
        (DataLoader(Numbers(), batch_size=4), BatchSizes(4, math.inf)),
        (DataLoader(DATASET, batch_size=None), None),
        (DataLoader(DATASET, batch_sampler=OwnBatches(SequentialSampler(DATASET), 4, drop_last=False)), None),
        ([ROWS], None),
    ],
)
def test_what_loaders_tell(loader, sizes):
    assert batch_sizes(loader, 1) == sizes


@pytest.mark.parametrize("drop_last", [False, True])
def test_they_are_those_of_the_batches(drop_last):
    loader = DataLoader(DATASET, batch_size=4, drop_last=drop_last)
    sizes, seen = batch_sizes(loader, 1), 0
    for count, (batch,) in enumerate(loader, start=1):
        seen += len(batch)
        assert sizes.of_first(count) == seen


def test_those_of_all_ranks():
    assert batch_sizes(TensorLoader(ROWS, batch_size=4), 2).of_first(3) == 20
