"""On several processes it is tried by tests/semantics/test_equal_ranks.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from trainkit.data import CombinedLoader, ShardedIterable
from trainkit.data.sampler import shard
from trainkit.trainer.same_batches import watch_first_batch
from trainkit.types import Phase


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


def run_beside(other, *, phase=Phase.TRAIN, is_distributed=True):
    """The first of two ranks, of which the second one's batch has the checksum ``other``; None for the same."""
    strategy = SimpleNamespace(
        is_distributed=is_distributed,
        is_global_zero=True,
        all_gather_object=lambda own: [own, own if other is None else other],
        one_of_each_data=list,
    )
    return SimpleNamespace(strategy=strategy, phase=phase, transfer=lambda batch, dataloader_idx: batch)


def test_the_same_first_batch_of_a_stream_is_told_once():
    run = run_beside(None)
    watch_first_batch(run, CombinedLoader([DataLoader(Stream())]))
    with pytest.warns(UserWarning, match=r"rank 0 and rank 1 the same first batch: of Stream.*ShardedIterable"):
        assert run.transfer("batch", 0) == "batch"
    assert run.transfer("batch", 0) == "batch"


def test_other_batches_are_fine():
    run = run_beside(5)
    watch_first_batch(run, DataLoader(Stream()))
    assert run.transfer(torch.zeros(2), 0).tolist() == [0, 0]


def test_what_is_validated_ahead_of_training_is_not_looked_at():
    run = run_beside(None, phase=Phase.SANITY_CHECK)
    watch_first_batch(run, DataLoader(Stream()))
    run.transfer("batch", 0)


@pytest.mark.parametrize(
    "loader",
    [shard(DataLoader(range(4)), 0, 2, training=True), DataLoader(ShardedIterable(range(4)))],
    ids=["by a sampler", "a stream"],
)
def test_loaders_that_are_dealt_are_left_alone(loader):
    run = run_beside(None)
    transfer = run.transfer
    watch_first_batch(run, loader)
    assert run.transfer is transfer


def test_one_process_is_left_alone():
    run = run_beside(None, is_distributed=False)
    transfer = run.transfer
    watch_first_batch(run, DataLoader(Stream()))
    assert run.transfer is transfer
