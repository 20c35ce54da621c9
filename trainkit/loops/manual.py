"""A step of a module that calls backward and its optimizers itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainkit.errors import ModuleError
from trainkit.hooks.dispatch import BoundHooks
from trainkit.loops.optimize import detached, prepare, update
from trainkit.loops.run import Run
from trainkit.types import Batch, StepOutput


def manual_step(run: Run, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
    """Call ``training_step`` of a module that calls backward and its optimizers itself."""
    run.stepped = False
    with run.precision.autocast():
        output = hooks.around_training_step(run.training_step, batch, batch_idx)
    if output is None:
        return {}
    if isinstance(output, Tensor | dict):
        return detached(output)
    raise ModuleError(
        f"{type(run.module).__name__}.training_step returned {type(output).__name__}. With manual optimization allowed "
        "are a tensor, a dict, or None."
    )


def manual_update(
    run: Run, hooks: BoundHooks, optimizer: torch.optim.Optimizer, closure: Callable[[], Any] | None
) -> Any:
    """What ``self.optimizers().step(closure)`` does with manual optimization."""
    if closure is None:
        run.strategy.sync_gradients(run.module)
        prepare(run, hooks, optimizer)
        return update(run, hooks, optimizer)

    def prepared_closure() -> Any:
        loss = closure()
        run.strategy.sync_gradients(run.module)
        prepare(run, hooks, optimizer)
        return loss

    return update(run, hooks, optimizer, prepared_closure)
