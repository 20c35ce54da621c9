"""Each scheduler that torch has, made for runs of a dozen updates."""

from __future__ import annotations

import inspect
from typing import Any

from torch.optim import Optimizer, lr_scheduler, swa_utils

FITTING: dict[str, Any] = {
    "lr_lambda": lambda step: 1 / (step + 1),
    "step_size": 2,
    "step_size_up": 3,
    "milestones": [2, 5],
    "gamma": 0.7,
    "T_max": 5,
    "T_0": 3,
    "base_lr": 0.01,
    "max_lr": 0.3,
    "total_steps": 40,
    "total_iters": 6,
    "swa_lr": 0.05,
    "anneal_epochs": 4,
}
"""Arguments by name, for every class that has them."""

CLASSES = [
    each
    for each in (*(getattr(lr_scheduler, name) for name in lr_scheduler.__all__), swa_utils.SWALR)
    if each not in (lr_scheduler.LRScheduler, lr_scheduler.ReduceLROnPlateau)
]
"""All that can be foreseen: one is the base of the others, one goes by a metric."""


def make(kind: type, optimizer: Optimizer) -> Any:
    """Return a scheduler of a class that torch has, or may come to have."""
    parameters = inspect.signature(kind).parameters
    arguments = {name: value for name, value in FITTING.items() if name in parameters}
    if "schedulers" in parameters:
        parts = (lr_scheduler.LinearLR, lr_scheduler.StepLR, lr_scheduler.CosineAnnealingLR)
        arguments["schedulers"] = [make(part, optimizer) for part in parts]
    return kind(optimizer=optimizer, **arguments)
