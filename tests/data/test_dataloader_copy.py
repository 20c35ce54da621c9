from __future__ import annotations

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

from trainkit.data.dataloader_copy import (
    has_own_batches,
    index_sampler,
    is_map_style,
    samplers_of,
    with_batch_sampler,
    with_sampler,
)


class OddLoader(DataLoader):
    """A subclass whose constructor is nothing like that of its parent."""

    def __init__(self, *, pairs):
        self.pairs = pairs
        super().__init__(range(pairs * 2), batch_size=2, collate_fn=tuple)


class OwnBatches(BatchSampler):
    pass


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


REVERSED = [5, 4, 3, 2, 1, 0]


def test_the_order_changes_and_everything_else_stays():
    loader = OddLoader(pairs=3)
    changed = with_sampler(loader, REVERSED)
    assert list(changed) == [(5, 4), (3, 2), (1, 0)]
    assert list(loader) == [(0, 1), (2, 3), (4, 5)]
    assert type(changed) is OddLoader
    assert changed.pairs == 3
    assert list(with_batch_sampler(loader, [[5], [0, 1, 2]])) == [(5,), (0, 1, 2)]


def test_drop_last_and_no_batching_are_kept():
    assert len(list(with_sampler(DataLoader(range(6), batch_size=4, drop_last=True), REVERSED))) == 1
    single = with_sampler(DataLoader(torch.arange(6), batch_size=None), REVERSED)
    assert [x.item() for x in single] == REVERSED


@pytest.mark.timeout(60)
def test_persistent_workers_of_the_old_loader_do_not_serve_the_new_one():
    loader = DataLoader(range(4), batch_size=2, num_workers=1, persistent_workers=True)
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3]]
    changed = with_sampler(loader, [3, 2, 1, 0])
    assert [batch.tolist() for batch in changed] == [[3, 2], [1, 0]]
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3]]


def test_what_is_found_out_about_a_loader():
    plain, stream = DataLoader(range(3)), DataLoader(Stream())
    own = DataLoader(range(3), batch_sampler=OwnBatches(SequentialSampler(range(3)), 2, False))
    assert is_map_style(plain) and is_map_style(own)
    assert not is_map_style(stream) and not is_map_style([1])
    assert has_own_batches(own) and not has_own_batches(plain)
    assert index_sampler(plain) is plain.sampler
    assert samplers_of(plain) == [plain.sampler, plain.batch_sampler]
    assert samplers_of(own) == [own.sampler, own.batch_sampler, own.batch_sampler.sampler]
    assert samplers_of([1]) == []
