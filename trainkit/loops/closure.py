"""A step through a closure: for optimizers that evaluate the loss, and modules that override ``optimizer_step``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor

from trainkit.errors import ConfigError, ModuleError, OptimizerError
from trainkit.hooks.bound import BoundHooks
from trainkit.loops.offered_closure import evaluated_ahead, may_want_closure, needs_closure
from trainkit.loops.optimize import backward_unless_skipped, prepare_group
from trainkit.loops.run import FitRun
from trainkit.module import TrainModule
from trainkit.precision.base import Precision
from trainkit.reflection import overrides
from trainkit.types import Batch, StepOutput


def takes_closure(module: TrainModule, optimizer: torch.optim.Optimizer) -> bool:
    """Whether updates go through a closure: ``optimizer_step`` is the user's, or the optimizer may want the loss."""
    own = overrides(module, "optimizer_step", TrainModule)
    return own or needs_closure(optimizer) or may_want_closure(optimizer)


def step_with_closure(run: FitRun, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
    """Like `step`, for an optimizer that may evaluate the loss, and for modules that override ``optimizer_step``."""
    run.counted_update = run.pending_update = False
    group = run.accumulation
    closes_group = group.closes(batch_idx, is_last)
    waiting = group.batches
    # An optimizer that decides by the loss, as a line search does, has to decide the same on every rank.
    decides = needs_closure(run.optimizer) or may_want_closure(run.optimizer)
    outputs: StepOutput | None = None
    losses: list[Tensor | None] = []

    def closure() -> Tensor | None:
        nonlocal outputs
        # The batches before this one have left nothing but their gradients, so they cannot be evaluated again.
        if outputs is not None and waiting:
            _refuse_group(run)
        # The optimizer may call several times: each evaluation takes the place of the one before.
        group.rewind(waiting)
        # A batch counts once in what is logged: as it was evaluated first, with the weights as they were.
        with nullcontext() if outputs is None else run.metrics.discarding():
            with run.strategy.gradient_sync(enabled=closes_group):
                # What `forward_and_backward` does, one frame nearer to the user's step.
                with run.precision.autocast():
                    output = hooks.around_training_step(run.training_step, batch, batch_idx)
                outputs = backward_unless_skipped(run, hooks, output, batch_idx)
            if closes_group:
                if not group.is_open:
                    raise NothingToUpdate
                prepare_group(run, hooks, synced=bool(outputs))
        if outputs:
            own = 1.0 if run.weight_of_batch is None else run.weight_of_batch(batch_idx)
            group.loss += outputs["loss"] * (own if group.divisor else own > 0)
        losses.append(group.mean_loss(run.strategy if decides else None) if group.is_open else None)
        return losses[-1]

    # Where `step_within` finds them, if an optimizer does not return what its closure gave.
    closure.losses = losses  # type: ignore[attr-defined]

    if not closes_group:
        # No update is due, so the optimizer and the module's optimizer_step have no part in this batch.
        closure()
        return outputs or {}
    try:
        if overrides(run.module, "optimizer_step", TrainModule):
            before = run.weights_version()
            run.module.optimizer_step(run.progress.epoch, batch_idx, run.wrapped_optimizers[0], closure)
            run.pending_update = run.pending_update or run.has_unseen_update(before)
        elif may_want_closure(run.optimizer):
            step_within(run, run.optimizer, evaluated_ahead(closure, run.optimizer), hooks=hooks)
        else:
            step_within(run, run.optimizer, closure, hooks=hooks)
    except NothingToUpdate:
        return {}
    if outputs is None:
        _refuse_uncalled(run, batch_idx)
    group.close()
    # Counted out here, when optimizer_step has returned: what it does after the update still belongs to it.
    if run.pending_update:
        run.count_update()
        hooks.on_after_optimizer_step(run.optimizer)
    return outputs


def step_within(
    run: FitRun,
    optimizer: torch.optim.Optimizer,
    closure: Callable[[], Any] | None = None,
    *,
    hooks: BoundHooks,
    **kwargs: Any,
) -> Any:
    """What ``optimizer.step(closure)`` does within ``optimizer_step``: the update is counted when that has returned."""
    run.sees_steps = True
    if not (hooks.joined_in_step or overrides(run.precision, "update", Precision)):
        # What the rest comes to where nobody takes part, two frames nearer to the user's step.
        loss = optimizer.step() if closure is None else optimizer.step(closure)
        run.pending_update = True
        return next(iter(getattr(closure, "losses", [])), None) if loss is None else loss
    losses: list[Any] = []

    def remembering() -> Any:
        losses.append(closure())  # type: ignore[misc]  # is called where there is one
        return losses[-1]

    make_update = partial(run.precision.update, closure=None if closure is None else remembering)
    if hooks.around_optimizer_step(make_update, optimizer):
        run.pending_update = True
    return losses[0] if losses else None


def refuse_step(run: FitRun, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
    """What ``optimizer.step()`` does where the loop makes the update.

    Raises:
        OptimizerError: Always.
    """
    raise OptimizerError(
        f"{type(optimizer).__name__}.step() was called with automatic optimization, which makes the update itself. "
        "Leave it out, or set self.automatic_optimization = False in __init__ and call backward and step yourself."
    )


def _refuse_group(run: FitRun) -> NoReturn:
    raise ConfigError(
        f"{type(run.optimizer).__name__} evaluates the loss several times per update, which cannot be done for "
        f"a group of accumulate_grad_batches={run.accumulation.size} batches. Use accumulate_grad_batches=1 and larger "
        "batches."
    )


def _refuse_uncalled(run: FitRun, batch_idx: int) -> NoReturn:
    raise ModuleError(
        f"{type(run.module).__name__}.optimizer_step did not call the closure, so no training step was run for "
        f"batch {batch_idx}. Pass it on, as in optimizer.step(closure=optimizer_closure), or call it yourself."
    )


class NothingToUpdate(Exception):
    """Every batch of the group was skipped: leaves the optimizer's step before it changes anything."""
