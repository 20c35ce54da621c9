"""An optimizer without parameters of its own, on which schedulers may be tried."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn, zeros
from torch.optim import Optimizer

_OPTIONS = (Tensor, float, int, str, tuple, list)


class StandIn(Optimizer):
    """An optimizer with the options of another one, whose rates schedulers may set.

    Args:
        other: The other one, which stays as it is. Of its parameters nothing is kept.
    """

    def __init__(self, other: Optimizer) -> None:
        groups = [
            {name: _copy(value) for name, value in group.items() if isinstance(value, _OPTIONS) and "param" not in name}
            for group in other.param_groups
        ]
        super().__init__([group | {"params": [nn.Parameter(zeros(()))]} for group in groups], dict(other.defaults))

    def step(self, closure: Any = None) -> Any:
        """Nothing: its rates alone are of interest."""


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value  # schedulers write into tensors
