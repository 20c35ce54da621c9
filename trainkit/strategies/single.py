"""One process on one device: the strategy to read first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from trainkit.checks import named_device, takes_numpy
from trainkit.module import TrainModule
from trainkit.strategies.base import Strategy


class SingleDevice(Strategy):
    """Everything on one device, by one process.

    Args:
        device: A device such as ``"cuda:1"``. By default the one that the Trainer's arguments name.
    """

    name = "single"
    compiles = "step"  # nothing has to happen between forward, backward and update

    @takes_numpy
    def __init__(self, device: torch.device | str | int | None = None) -> None:
        chosen = named_device("SingleDevice", device)
        if chosen is not None:
            self.assign([chosen])

    def wrap(self, module: TrainModule) -> None:
        module.to(self.device)

    def training_step(self, module: TrainModule) -> Callable[..., Any]:
        # The user's method itself, so that no frame stands between the loop and it.
        return module.training_step
