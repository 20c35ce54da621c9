"""Optimizers are tried on parts; what several ranks find is in ``tests/strategies/test_fsdp_fit.py``."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.strategies.fsdp_fit import Net, fit
from trainkit.errors import OptimizerError


class OnMemory(torch.optim.SGD):
    """Updates what a tensor has in memory, which for a part is nothing."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if type(parameter) is torch.nn.Parameter:
                    parameter.sub_(parameter.grad)


def test_one_that_makes_something_else_of_parts_is_refused():
    with pytest.raises(OptimizerError, match="OnMemory cannot .*something else of parts"):
        fit(Net(make_optimizer=lambda parameters: OnMemory(parameters, lr=0.1)), "fsdp")
