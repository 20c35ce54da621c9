"""Tensors that a module gets after it was looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from trainkit.strategies.new_tensors import NewTensors


@pytest.fixture
def new() -> Iterator[NewTensors]:
    made = NewTensors()
    yield made
    made.close()


def test_what_is_registered_anywhere_in_the_module_is_found_once(new: NewTensors):
    module = nn.Sequential(nn.Linear(2, 2), nn.Sequential())
    new.watch(module)
    assert new.take(module) == []
    module[1].append(nn.BatchNorm1d(2))
    module.scale = nn.Parameter(torch.ones(()))
    expected = [module.scale, *module[1].parameters(), *module[1].buffers()]
    assert {id(each) for each in new.take(module)} == {id(each) for each in expected}
    assert new.take(module) == []


def test_layers_of_other_modules_are_none_of_it(new: NewTensors):
    module = nn.Linear(2, 2)
    new.watch(module)
    nn.Sequential(nn.Linear(2, 2))
    assert new.take(module) == []


def test_nothing_is_listened_to_after_it_was_closed(new: NewTensors):
    hooks = nn.modules.module._global_parameter_registration_hooks
    before = len(hooks)
    new.watch(nn.Linear(2, 2))
    assert len(hooks) == before + 1
    new.close()
    assert len(hooks) == before
