"""On two processes it is tried in test_drawn_alike.py."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, DistributedSampler, Subset, TensorDataset

from trainkit.data import TensorLoader
from trainkit.data.combined import CombinedLoader
from trainkit.data.loaders import LimitedLoader
from trainkit.data.sampler import shard
from trainkit.trainer.same_data import warn_of_other_data


class Files(Dataset):
    """Samples that are not in memory."""

    def __init__(self, size=20):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        raise AssertionError("no sample is to be loaded")


class Second:
    """What the second of two ranks hears from the first, which has given ``of_first``."""

    is_distributed, is_global_zero = True, True

    def __init__(self, of_first=None):
        self.of_first = of_first

    def all_gather_object(self, value):
        self.of_first = self.of_first or value
        return [self.of_first, value]


def dealt(data):
    return shard(DataLoader(data, batch_size=2), 0, 2, training=True)


def compare(*loaders):
    """Compare what two ranks have as their loader."""
    strategy = Second()
    for loader in loaders:
        warn_of_other_data(strategy, [LimitedLoader(loader, 1.0, "train_dataloader")])


def numbers(seed):
    return torch.randn(20, 3, generator=torch.Generator().manual_seed(seed))


def halves(data, seed):
    return Subset(data, torch.randperm(20, generator=torch.Generator().manual_seed(seed)).tolist()[:10])


DATA = {
    "a split of files": lambda seed: dealt(halves(Files(), seed)),
    "a split of tensors": lambda seed: dealt(halves(TensorDataset(numbers(0)), seed)),
    "a split of a split": lambda seed: dealt(Subset(halves(Files(), seed), range(5))),
    "splits together": lambda seed: dealt(ConcatDataset([Files(), halves(Files(), seed)])),
    "tensors": lambda seed: dealt(TensorDataset(numbers(seed))),
    "more files": lambda seed: dealt(Files(20 + seed)),
    "a TensorLoader": lambda seed: shard(TensorLoader(numbers(seed), batch_size=2), 0, 2, training=True),
    "several": lambda seed: CombinedLoader([dealt(Files()), {"a": dealt(halves(Files(), seed))}]),
    "a sampler of the user's": lambda seed: DataLoader(
        halves(Files(), seed), sampler=DistributedSampler(range(10), num_replicas=2, rank=0)
    ),
}


@pytest.mark.parametrize("kind", DATA)
def test_ranks_with_other_samples_are_told_what_to_do(kind):
    with pytest.warns(UserWarning, match=r"train_dataloader: the ranks have other samples.*random_split.*setup\(\)"):
        compare(DATA[kind](1), DATA[kind](2))


@pytest.mark.parametrize("kind", DATA)
def test_nothing_is_told_of_ranks_with_the_same_samples(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare(DATA[kind](1), DATA[kind](1))


def test_data_that_are_not_dealt_may_be_those_of_each_rank():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare(DataLoader(halves(Files(), 1)), DataLoader(halves(Files(), 2)))
        compare([torch.zeros(1)], [torch.ones(1)])
