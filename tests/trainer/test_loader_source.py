from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from trainkit.data.combined import CombinedLoader
from trainkit.data.module import DataModule
from trainkit.errors import DataError
from trainkit.module import TrainModule
from trainkit.trainer.loader_source import LoaderSource, as_one, as_several


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


class WithLoaders(TrainModule):
    def train_dataloader(self):
        return ["module"]

    def val_dataloader(self):
        return ["module"]


class TrainData(DataModule):
    def train_dataloader(self):
        return ["data"]


LOADER = DataLoader(range(3))


# Where loaders come from


def test_what_was_passed_goes_before_the_module():
    source = LoaderSource(WithLoaders(), {"train": ["given"], "val": None})
    assert source.train() == ["given"]
    assert source.evaluation("val") == [["module"]]


def test_the_data_module_goes_before_the_module_where_it_has_the_method():
    source = LoaderSource(WithLoaders(), {}, TrainData())
    assert source.train() == ["data"]
    assert source.evaluation("val") == [["module"]]


def test_a_data_module_among_the_loaders_is_taken_as_one():
    data = TrainData()
    source = LoaderSource(TrainModule(), {"train": data, "val": None})
    assert source.datamodule is data
    assert source.train() == ["data"]
    assert not source.has("val")


def test_loaders_are_asked_for_anew_each_time():
    class Counts(TrainModule):
        asked = 0

        def train_dataloader(self):
            self.asked += 1
            return [self.asked]

    source = LoaderSource(Counts(), {})
    assert [source.train(), source.train()] == [[1], [2]]


def test_no_validation_is_fine_and_a_method_may_return_none():
    class Nothing(TrainModule):
        def val_dataloader(self):
            return None

    assert LoaderSource(TrainModule(), {}).evaluation("val") == []
    assert LoaderSource(Nothing(), {}).evaluation("val") == []


@pytest.mark.parametrize(
    ("name", "entry_point"), [("train", "fit"), ("val", "validate"), ("test", "test"), ("predict", "predict")]
)
def test_no_data_is_an_error_that_says_where_it_may_come_from(name, entry_point):
    source = LoaderSource(TrainModule(), {}, DataModule())
    message = rf"(?s)trainer\.{entry_point}\(module, loader\).*{name}_dataloader\(self\) in DataModule or TrainModule"
    with pytest.raises(DataError, match=message):
        source.demand(name)
    LoaderSource(TrainModule(), {name: [1]}).demand(name)


def test_a_training_method_that_returns_nothing_is_an_error():
    class Nothing(TrainModule):
        def train_dataloader(self):
            return None

    with pytest.raises(DataError, match="no data to fit with"):
        LoaderSource(Nothing(), {}).train()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": [1], "val": None}, r"train_dataloaders and datamodule \(TrainData\)"),
        ({"train": [1], "val": [1]}, "train_dataloaders and val_dataloaders and datamodule"),
        ({"test": [1]}, "dataloaders and datamodule"),
        ({"train": TrainData(), "val": [1]}, "val_dataloaders and datamodule"),
    ],
)
def test_loaders_and_a_data_module_together_are_an_error(given, message):
    datamodule = None if isinstance(given.get("train"), DataModule) else TrainData()
    with pytest.raises(DataError, match=message):
        LoaderSource(TrainModule(), given, datamodule)


@pytest.mark.parametrize(
    ("wrong", "kind"), [(3, "a int"), (TrainData, "the class TrainData"), (LOADER, "a DataLoader")]
)
def test_what_is_no_data_module_is_an_error(wrong, kind):
    with pytest.raises(DataError, match=rf"datamodule must be an instance of trainkit.DataModule; got {kind}"):
        LoaderSource(TrainModule(), {}, wrong)


# One loader or several

BATCHES = [[torch.zeros(1)], [torch.zeros(1)]]


class Batches:
    def __iter__(self):
        return iter(BATCHES)


class OwnDict(dict):
    """A data set by name, which gives batches."""

    def __iter__(self):
        return iter(BATCHES)


class OwnList(list):
    def __iter__(self):
        return iter(BATCHES)


class Graph:
    """A batch that can be iterated over and moved."""

    def __iter__(self):
        return iter([("x", 1)])

    def to(self, device):
        return self


@pytest.mark.parametrize(
    "batches",
    [
        LOADER,
        [1, 2],
        (1, 2),
        [[torch.zeros(1)], [torch.zeros(1)]],
        [{"x": 1}],
        Stream(),
        iter([1]),
        CombinedLoader([[1]]),
        OwnDict(a=1),
        OwnList([LOADER]),
        [Graph(), Graph()],
    ],
    ids=lambda batches: type(batches).__name__,
)
def test_an_iterable_of_batches_is_one_loader(batches):
    assert as_one(batches, "train_dataloader") is batches
    assert as_several(batches, "val_dataloader") == [batches]


@pytest.mark.parametrize(
    ("loaders", "flat"),
    [
        ([LOADER], [LOADER]),
        ((LOADER, LOADER), [LOADER, LOADER]),
        ({"a": LOADER, "b": [LOADER]}, [LOADER, LOADER]),
        ([CombinedLoader([[1]])], 1),
        ([Stream()], 1),
        ({"a": BATCHES, "b": Batches()}, 2),
        ([Batches(), iter([1]), LOADER], 3),
        ({"a": Stream(), "b": [Batches(), Batches()]}, 3),
        (OrderedDict(a=BATCHES), 1),
        ([LOADER, BATCHES], 2),
    ],
)
def test_a_container_of_loaders_is_several(loaders, flat):
    combined = as_one(loaders, "train_dataloader")
    assert combined.mode == "max_size_cycle"
    assert combined.iterables is loaders
    several = as_several(loaders, "val_dataloader")
    assert several == flat if isinstance(flat, list) else len(several) == flat


def test_a_sequential_combined_loader_is_several_for_evaluation():
    assert as_several(CombinedLoader({"a": LOADER, "b": [1]}, "sequential"), "val_dataloader") == [LOADER, [1]]


MIXTURES = [[LOADER, [1, 2]], [LOADER, torch.zeros(1)], {"a": LOADER, "b": 3}, [LOADER, TensorDataset(torch.ones(1))]]


@pytest.mark.parametrize("mixture", MIXTURES)
def test_a_mixture_is_an_error(mixture):
    for resolve in (as_one, as_several):
        with pytest.raises(DataError, match=r"(?s)train_dataloader mixes loaders with a \w+.*DataLoader"):
            resolve(mixture, "train_dataloader")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (TensorDataset(torch.zeros(3)), r"TensorDataset.*DataLoader\(dataset"),
        ({"x": torch.zeros(3)}, "dict.*must hold loaders"),
        ({"x": [1, 2], "y": ["a", "b"]}, "dict.*must hold loaders"),
        ({"x": BATCHES, "y": torch.zeros(3)}, "dict.*must hold loaders"),
        (torch.zeros(3), "Tensor.*TensorLoader"),
        (DataLoader, r"DataLoader.*DataLoader\(\.\.\.\)"),
        ("data/", "str.*iterable of batches"),
        (3, "int.*iterable of batches"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_gives_no_batches_is_an_error_that_says_what_to_do(wrong, message):
    for resolve in (as_one, as_several):
        with pytest.raises(DataError, match=f"(?s)train_dataloader cannot be an? {message}"):
            resolve(wrong, "train_dataloader")
