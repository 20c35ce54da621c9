from __future__ import annotations

import pickle

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, TensorDataset

from trainkit.data.module import DataModule
from trainkit.errors import DataError


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


class Sized(DataModule):
    def __init__(self, size=1):
        super().__init__()
        self.size = size


@pytest.mark.parametrize("name", ["train", "val", "test", "predict"])
def test_a_loader_that_is_not_defined_is_an_error_that_names_it(name):
    with pytest.raises(DataError, match=rf"Sized does not define {name}_dataloader\(self\)"):
        getattr(Sized(), f"{name}_dataloader")()


def test_from_datasets_shuffles_training_only():
    dataset = TensorDataset(torch.zeros(6, 2))
    data = Sized.from_datasets(dataset, val_dataset=dataset, test_dataset=[dataset, dataset], batch_size=4, size=3)
    assert data.size == 3
    train, val, tests = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    assert isinstance(train.sampler, RandomSampler)
    assert isinstance(val.sampler, SequentialSampler)
    assert [type(test) for test in tests] == [DataLoader, DataLoader]
    assert train.batch_size == val.batch_size == 4
    with pytest.raises(DataError, match="predict_dataloader"):
        data.predict_dataloader()


def test_from_datasets_takes_dicts_and_streams():
    data = DataModule.from_datasets({"a": range(3), "b": Stream()})
    loaders = data.train_dataloader()
    assert list(loaders) == ["a", "b"]
    assert len(list(loaders["b"])) == 3


def test_a_data_module_without_state_has_an_empty_one():
    assert DataModule().state_dict() == {}


def test_a_copy_does_not_carry_the_run_along():
    data = Sized.from_datasets(range(3), size=4)
    data.trainer = lambda: "cannot be pickled"
    twin = pickle.loads(pickle.dumps(data))
    assert twin.trainer is None
    assert twin.size == 4
    assert len(twin.train_dataloader()) == 3
