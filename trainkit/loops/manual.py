"""A step in which the loop makes no update: the module does, or nobody does, there being no optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainkit.errors import ModuleError
from trainkit.hooks.bound import BoundHooks
from trainkit.loops.offered_closure import needs_closure
from trainkit.loops.optimize import detached, prepare, require_scalar, to_return, update
from trainkit.loops.run import FitRun
from trainkit.output import warn
from trainkit.precision.base import Precision
from trainkit.reflection import overrides
from trainkit.types import Batch, StepOutput


def manual_step(run: FitRun, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
    """Call ``training_step``, and nothing else.

    Either the module calls backward and its optimizers itself, or ``configure_optimizers`` returned None.
    """
    run.counted_update = False
    before = run.weights_version()
    with run.precision.autocast():
        output = hooks.around_training_step(run.training_step, batch, batch_idx)
    # Without an optimizer a model is fitted through its buffers: each batch is a step, by which limits and rows go.
    if not run.optimizers:
        run.count_update()
    elif run.has_unseen_update(before):
        run.count_update()
        _warn_of_scaled_gradients(run)
    if output is None:
        return {}
    if isinstance(output, Tensor) and not run.optimizers:
        require_scalar(output)
    if isinstance(output, Tensor | dict):
        return detached(output)
    what = "without an optimizer" if run.module.automatic_optimization else "with manual optimization"
    raise ModuleError(
        f"{type(run.module).__name__}.training_step returned {type(output).__name__}. {what.capitalize()} allowed are "
        f"a tensor, a dict, or None.{to_return(output)}"
    )


def _warn_of_scaled_gradients(run: FitRun) -> None:
    if overrides(run.precision, "scale", Precision):
        warn(
            f"weights were updated past step() of self.optimizers(), and precision {run.precision.name!r} scales the "
            "loss: unless training_step has divided the gradients again, the update was too large by that. Call "
            "self.optimizers().step(), or use 'bf16-mixed' or '32-true'.",
        )


def step_by_hand(
    run: FitRun,
    optimizer: torch.optim.Optimizer,
    closure: Callable[[], Any] | None = None,
    *,
    hooks: BoundHooks,
    **kwargs: Any,
) -> Any:
    """What ``self.optimizers().step(closure)`` does with manual optimization."""
    run.sees_steps = True
    if closure is None:
        run.exchange.before_update(run.module, optimizer)
        run.gradient_watch.before_update(optimizer)
        prepare(run, hooks, optimizer)
        update(run, hooks, optimizer)
        return run.gradient_watch.after_update(optimizer)
    losses: list[Any] = []

    def prepared_closure() -> Any:
        # Clipping and exchange have to come between the module's backward and what the optimizer does with it.
        losses.append(closure())
        run.exchange.before_update(run.module, optimizer)
        prepare(run, hooks, optimizer)
        return _of_all_ranks(run, losses[-1]) if needs_closure(optimizer) else losses[-1]

    update(run, hooks, optimizer, prepared_closure)
    return losses[0] if losses else None


def _of_all_ranks(run: FitRun, loss: Any) -> Any:
    """Return the mean of ``loss`` over all ranks, by which an optimizer decides the same on each, as a line search."""
    if loss is None or not run.strategy.is_distributed:
        return loss
    return run.strategy.all_reduce(torch.as_tensor(loss, device=run.strategy.device), "mean")
