from __future__ import annotations

import pytest
from torch import nn

from trainkit.module.modes import modes_kept


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
