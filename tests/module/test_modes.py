from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from trainkit.module.modes import Snapshot, modes_kept
from trainkit.testing import assert_same_state


@pytest.fixture
def module() -> nn.Module:
    module = nn.Sequential(nn.Linear(1, 1), nn.Dropout(), nn.BatchNorm1d(1))
    module[2].eval()
    return module


def modes(module: nn.Module) -> list[bool]:
    return [child.training for child in module.modules()]


@pytest.mark.parametrize("changed_to", [True, False])
def test_each_submodule_gets_its_own_mode_back(module: nn.Module, changed_to: bool) -> None:
    before = modes(module)
    with modes_kept(module):
        module.train(changed_to)
        assert modes(module) == [changed_to] * 4
    assert modes(module) == before == [True, True, True, False]


def test_modes_come_back_after_an_exception(module: nn.Module) -> None:
    with pytest.raises(ValueError, match="inside"), modes_kept(module):
        module.eval()
        raise ValueError("inside")
    assert modes(module) == [True, True, True, False]


def change(module: nn.Module) -> None:
    """Fold a batch into the statistics, and put another object in the place of a buffer."""
    module.train()
    module(torch.ones(4, 1))
    module[2].running_mean = torch.full((1,), 7.0)


def test_buffers_come_back_as_often_as_they_are_restored(module: nn.Module) -> None:
    state, buffers = copy.deepcopy(module.state_dict()), dict(module.named_buffers())
    before = Snapshot(module, buffers=True)
    for _ in range(2):
        change(module)
        assert modes(module) == [True] * 4 and module[2].num_batches_tracked == 1

        before.restore()
        assert_same_state(module.state_dict(), state)
        assert all(buffer is buffers[name] for name, buffer in module.named_buffers())
        assert modes(module) == [True, True, True, False]


def test_a_buffer_that_was_none_is_none_again(module: nn.Module) -> None:
    module.register_buffer("center", None)
    before = Snapshot(module, buffers=True)
    module.center = torch.ones(2)
    before.restore()
    assert module.center is None and "center" in dict(module._buffers)


def test_buffers_that_do_not_exist_yet_are_no_hindrance() -> None:
    module = nn.BatchNorm1d(2, track_running_stats=False)
    with modes_kept(module, buffers=True):
        module.eval()
    assert module.running_mean is None and module.training


def test_buffers_stay_as_they_are_unless_asked_for(module: nn.Module) -> None:
    with modes_kept(module):
        change(module)
    assert module[2].num_batches_tracked == 1 and module[2].running_mean == 7.0

    with pytest.raises(ValueError, match="inside"), modes_kept(module, buffers=True):
        change(module)
        raise ValueError("inside")
    assert module[2].num_batches_tracked == 1
