from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from trainkit import DataModule
from trainkit.data import CombinedLoader, TensorLoader
from trainkit.errors import ModuleError
from trainkit.testing import TinyData, TinyModule
from trainkit.trainer.check_module import check_module
from trainkit.types import Stage


@pytest.mark.parametrize("stage", Stage)
def test_a_module_is_returned_as_it_is(stage):
    module = TinyModule()
    assert check_module(module, stage) is module


@pytest.mark.parametrize("stage", Stage)
def test_nothing_is_enough_only_where_there_was_a_module_before(stage):
    with pytest.raises(ModuleError, match=rf"trainer.{stage}\(\) needs a module the first time"):
        check_module(None, stage)


def test_a_class_is_no_object():
    with pytest.raises(ModuleError, match=r"given the class TinyModule. Did you mean TinyModule\(\)\?"):
        check_module(TinyModule, Stage.FIT)


@pytest.mark.parametrize(
    "wrong",
    [
        TinyData(1),
        DataLoader([1]),
        TensorLoader(torch.zeros(2)),
        CombinedLoader([DataLoader([1])]),
        DataModule(),
    ],
    ids=lambda wrong: type(wrong).__name__,
)
def test_data_in_the_place_of_the_module_are_told_so(wrong):
    with pytest.raises(ModuleError, match=rf"a {type(wrong).__name__} as its module. The module comes first"):
        check_module(wrong, Stage.FIT)


@pytest.mark.parametrize(
    ("wrong", "kind"), [(torch.nn.Linear(1, 1), "a torch.nn.Module, but no TrainModule"), ("text", "no TrainModule")]
)
def test_something_else_is_told_what_it_is(wrong, kind):
    with pytest.raises(ModuleError, match=rf"given a {type(wrong).__name__}, which is {kind}. Subclass"):
        check_module(wrong, Stage.FIT)
