"""A step through a closure: for optimizers that evaluate the loss, and modules that override ``optimizer_step``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainkit.errors import ConfigError, ModuleError, OptimizerError
from trainkit.hooks.dispatch import BoundHooks
from trainkit.loops.optimize import forward_and_backward, prepare_group
from trainkit.loops.run import Run
from trainkit.module import TrainModule
from trainkit.reflection import overrides
from trainkit.types import Batch, StepOutput


def takes_closure(run: Run) -> bool:
    """Whether updates go through ``module.optimizer_step``: it is the user's, or the optimizer needs a closure."""
    return overrides(run.module, "optimizer_step", TrainModule) or isinstance(run.optimizer, torch.optim.LBFGS)


def step_with_closure(run: Run, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
    """Like `step`, for an optimizer that evaluates the loss, and for modules that override ``optimizer_step``."""
    run.stepped = False
    closes_group = run.closes_group(batch_idx, is_last)
    waiting = run.progress.group_batches
    outputs: StepOutput | None = None

    def closure() -> Tensor | None:
        nonlocal outputs
        if outputs is not None and waiting:
            raise ConfigError(
                f"{type(run.optimizer).__name__} evaluates the loss several times per update, which cannot be done for "
                f"a group of accumulate_grad_batches={run.accumulate} batches. Use accumulate_grad_batches=1 and "
                "larger batches."
            )
        run.progress.group_batches = waiting
        with run.strategy.gradient_sync(enabled=closes_group):
            outputs = forward_and_backward(run, hooks, batch, batch_idx)
        if closes_group and run.progress.group_batches == 0:
            raise NothingToUpdate
        if closes_group:
            prepare_group(run, hooks, synced=bool(outputs))
        return outputs.get("loss")

    if not closes_group:
        closure()
        return outputs or {}
    try:
        run.updated = False
        run.module.optimizer_step(run.progress.epoch, batch_idx, run.handles[0], closure)
    except NothingToUpdate:
        return {}
    if outputs is None:
        raise ModuleError(
            f"{type(run.module).__name__}.optimizer_step did not call the closure, so no training step was run for "
            f"batch {batch_idx}. Pass it on, as in optimizer.step(closure=optimizer_closure), or call it yourself."
        )
    run.progress.group_batches = 0
    if run.updated:
        run.count_update()
        hooks.on_after_optimizer_step(run.optimizer)
    return outputs


def update_to_count(
    run: Run, hooks: BoundHooks, optimizer: torch.optim.Optimizer, closure: Callable[[], Any] | None
) -> None:
    """What ``optimizer.step(closure)`` does within ``optimizer_step``: the update is counted when that has returned."""
    if hooks.around_optimizer_step(lambda optimizer: run.precision.update(optimizer, closure), optimizer):
        run.updated = True


def refuse_update(optimizer: torch.optim.Optimizer, closure: Callable[[], Any] | None) -> None:
    """What ``optimizer.step()`` does where the loop makes the update.

    Raises:
        OptimizerError: Always.
    """
    raise OptimizerError(
        f"{type(optimizer).__name__}.step() was called with automatic optimization, which makes the update itself. "
        "Leave it out, or set self.automatic_optimization = False in __init__ and call backward and step yourself."
    )


class NothingToUpdate(Exception):
    """Every batch of the group was skipped: leaves the optimizer's step before it changes anything."""
