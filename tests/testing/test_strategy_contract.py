"""trainkit's own strategies keep the contract, and strategies that break a promise do not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from trainkit.module import TrainModule
from trainkit.strategies import DDP, DataParallel, SingleDevice, Strategy
from trainkit.testing import check_strategy


def _same(made: Any) -> Any:
    return made


@pytest.mark.filterwarnings("ignore:strategy 'dp'")
@pytest.mark.parametrize("make", [SingleDevice, DDP, DataParallel])
def test_own_strategies_keep_the_contract(make: Callable[[], Strategy]) -> None:
    check_strategy(make)


class Forgets(SingleDevice):
    name = "forgets"

    def training_step(self, module: TrainModule) -> Callable[..., Any]:
        return lambda batch, batch_idx: 2 * module.training_step(batch, batch_idx)


class Renames(SingleDevice):
    name = "renames"

    def module_state_dict(self, module: TrainModule) -> dict[str, Any]:
        return {f"module.{name}": value for name, value in module.state_dict().items()}


class Rounds(SingleDevice):
    name = "rounds"

    def evaluation_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def rounded(*arguments: Any) -> Any:
            output = step(*arguments)
            return output.round() if isinstance(output, torch.Tensor) else output

        return rounded


class Nameless(SingleDevice):
    name = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Forgets, "layer"),
        (Renames, "not those of the module"),
        (Rounds, "gives other predictions"),
        (Nameless, "has no name"),
        (lambda: "ddp", "is no Strategy"),
        (partial(_same, SingleDevice()), "a new strategy at each call"),
    ],
)
def test_a_strategy_that_breaks_a_promise_is_told(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check_strategy(make)
