"""Another number of ranks evaluates the samples that were evaluated in a limited number of batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader

from trainkit.data import TensorLoader
from trainkit.data.first_samples import FirstItems, count_items, with_first
from trainkit.data.loaders import LimitedLoader
from trainkit.data.sampler import shard


class Batches(BatchSampler):
    pass


LOADERS = {
    "samples": lambda: DataLoader(range(23), 3),
    "tensors": lambda: TensorLoader(torch.arange(23), batch_size=3),
    "whole batches": lambda: DataLoader(range(23), batch_sampler=Batches(range(23), 3, False)),
}


def seen(loader: Any, limit: int | float, ranks: int) -> set[int]:
    parts = [LimitedLoader(shard(loader, rank, ranks, training=False), limit) for rank in range(ranks)]
    batches = [batch for part in parts for _, batch, _ in part.batches()]
    return {int(each) for batch in batches for each in (batch[0] if isinstance(batch, list) else batch)}


@pytest.mark.parametrize("limit", [1, 2, 0.5, 0.2])
@pytest.mark.parametrize("kind", LOADERS)
def test_other_ranks_have_the_samples_that_were_evaluated(kind: str, limit: int | float):
    expected = seen(LOADERS[kind](), limit, 2)
    count = count_items(LimitedLoader(shard(LOADERS[kind](), 0, 2, training=False), limit), limit, 2)
    for ranks in (1, 3):
        loader = with_first(LOADERS[kind](), count)
        if ranks == 1:
            batches = [batch[0] if isinstance(batch, list) else batch for batch in loader]
            assert {int(each) for batch in batches for each in batch} == expected
        else:
            assert seen(loader, 1.0, ranks) == expected


def test_all_of_them_need_no_count():
    assert count_items(LimitedLoader(DataLoader(range(5)), 1.0), 1.0, 1) is None
    loader = DataLoader(range(5))
    assert with_first(loader, None) is loader


def test_there_may_be_fewer_than_that():
    assert len(FirstItems(range(3), 9)) == 3
    assert list(FirstItems(range(3), 2)) == [0, 1]
