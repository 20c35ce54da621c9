from __future__ import annotations

from typing import Any

import pytest
import torch

from trainkit.errors import ConfigError
from trainkit.module import TrainModule
from trainkit.strategies import Strategy


class Smallest(Strategy):
    """All that a strategy has to write."""

    name = "smallest"

    def wrap(self, module: TrainModule) -> None:
        module.to(self.device)

    def training_step(self, module: TrainModule) -> Any:
        return module.training_step


def test_two_methods_are_enough_for_one_device():
    strategy = Smallest()
    strategy.assign([torch.device("cpu")])
    strategy.setup()
    with strategy.gradient_sync(enabled=False):
        strategy.sync_gradients(torch.nn.Linear(1, 1))
    strategy.teardown()
    assert (strategy.device, strategy.world_size) == (torch.device("cpu"), 1)


def test_more_devices_than_one_are_refused_with_the_way_to_use_them():
    with pytest.raises(ConfigError, match=r"(?s)one device per process, and 2 .*for all of them  strategy=.ddp."):
        Smallest().assign([torch.device("cpu")] * 2)


def test_a_flag_may_be_a_tensor():
    assert Smallest().any_rank(torch.tensor(True)) is True


def test_one_process_skips_as_it_likes():
    assert [Smallest().skips_step(skips) for skips in (True, False)] == [True, False]


def test_a_strategy_without_a_step_cannot_be_made():
    with pytest.raises(TypeError, match="training_step"):
        Strategy()  # type: ignore[abstract]
