from __future__ import annotations

import pytest
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SubsetRandomSampler

from trainkit.data.combined import CombinedLoader
from trainkit.data.overfit import RepeatedSampler, in_fixed_order


class OwnBatches(BatchSampler):
    pass


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


def order(loader):
    return [batch.tolist() for batch in loader]


def test_a_shuffled_loader_becomes_sequential():
    loader = in_fixed_order(DataLoader(range(6), batch_size=2, shuffle=True))
    assert order(loader) == order(loader) == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(range(20), batch_size=2, sampler=SubsetRandomSampler(range(5, 15))),
        DataLoader(range(20), batch_sampler=OwnBatches(RandomSampler(range(20)), 2, False)),
        DataLoader(range(20), batch_sampler=BatchSampler(SubsetRandomSampler(range(9)), 2, False)),
    ],
    ids=["sampler", "batch sampler", "plain batch sampler"],
)
def test_any_other_random_order_is_drawn_once(loader):
    fixed = in_fixed_order(loader)
    assert order(fixed) == order(fixed)
    assert len(fixed) == len(loader)
    assert {i for batch in order(fixed) for i in batch} == {i for batch in order(loader) for i in batch}


@pytest.mark.parametrize(
    "loader", [[1, 2], DataLoader(Stream()), DataLoader(range(3))], ids=["list", "stream", "sequential"]
)
def test_what_is_in_order_or_has_no_sampler_is_left_alone(loader):
    assert in_fixed_order(loader) is loader


def test_every_loader_of_a_combined_one_is_fixed():
    combined = in_fixed_order(CombinedLoader([DataLoader(range(4), shuffle=True)], "min_size"))
    assert [batch[0].item() for batch in combined.batches()] == [0, 1, 2, 3]


def test_a_repeated_sampler_knows_its_length_as_far_as_it_can():
    assert len(RepeatedSampler([1, 2])) == 2
    unknown = RepeatedSampler(iter([1, 2, 3]))
    with pytest.raises(TypeError, match="no length"):
        len(unknown)
    assert list(unknown) == list(unknown) == [1, 2, 3]
    assert len(unknown) == 3
