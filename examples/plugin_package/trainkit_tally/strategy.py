"""A strategy that counts steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainkit import TrainModule
from trainkit.strategies.base import Strategy


class TalliedDevice(Strategy):
    """One device, and the number of training steps that were run on it."""

    name = "tallied"
    steps = 0

    def wrap(self, module: TrainModule) -> None:
        module.to(self.device)

    def training_step(self, module: TrainModule) -> Callable[..., Any]:
        def step(*values: Any) -> Any:
            self.steps += 1
            return module.training_step(*values)

        return step
