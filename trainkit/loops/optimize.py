"""One optimisation step: forward and backward for a batch, and an update when its group is complete."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainkit.errors import ModuleError
from trainkit.hooks.dispatch import BoundHooks
from trainkit.loops.run import Run
from trainkit.types import Batch, StepOutput


def step(run: Run, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
    """Forward and backward for one batch; update the weights if it closes its accumulation group."""
    run.stepped = False
    closes_group = run.closes_group(batch_idx, is_last)
    with run.strategy.gradient_sync(enabled=closes_group):
        outputs = forward_and_backward(run, hooks, batch, batch_idx)
    if closes_group:
        close_group(run, hooks, synced=bool(outputs))
    return outputs


def forward_and_backward(run: Run, hooks: BoundHooks, batch: Batch, batch_idx: int) -> StepOutput:
    """Add the gradients of one batch to those of its group; return its loss, or nothing if the batch was skipped."""
    with run.precision.autocast():
        output = hooks.around_training_step(run.training_step, batch, batch_idx)
    return learn_from(run, hooks, output, batch_idx)


def learn_from(run: Run, hooks: BoundHooks, output: Any, batch_idx: int) -> StepOutput:
    """Add the gradients of what ``training_step`` returned for a batch to those of its group."""
    if run.strategy.skips_step(output is None):
        return {}
    loss, weight = read_loss(output)
    if run.progress.group_batches == 0:
        run.open_group(batch_idx, weighted=weight is not None)
        hooks.on_before_zero_grad(run.optimizer)
        run.zero_grad(batch_idx)
    elif (weight is None) == (run.group_divisor == 0):
        raise ModuleError(
            "training_step returned a 'weight' for some batches of an accumulation group and none for others, so "
            "there is no telling what each is worth. Return it for all batches or for none."
        )
    share = loss / run.group_divisor if run.group_divisor > 1 else loss
    hooks.on_before_backward(share)
    hooks.around_backward(run.backward, share)
    hooks.on_after_backward()
    run.progress.group_batches += 1
    if weight is not None:
        run.group_weight += weight
    return detached(output)


def detached(output: Tensor | dict[str, Any]) -> StepOutput:
    """Return what ``training_step`` returned as plugins get it: a dict, cut off from the graph of the loss."""
    if isinstance(output, Tensor):
        return {"loss": output.detach()}
    return {key: value.detach() if isinstance(value, Tensor) else value for key, value in output.items()}


def close_group(run: Run, hooks: BoundHooks, *, synced: bool = False) -> None:
    """Update the weights with the gradients that wait, if there are any.

    Args:
        run: The run.
        hooks: Its hooks.
        synced: Whether the ranks have exchanged them: they have unless the group closes earlier than was foreseen.
    """
    if run.progress.group_batches:
        prepare_group(run, hooks, synced=synced)
        update(run, hooks, run.optimizer)
        run.progress.group_batches = 0


def prepare_group(run: Run, hooks: BoundHooks, *, synced: bool) -> None:
    """Average the gradients of a group that closes, over ranks and over batches, and prepare them for the update."""
    if not synced:
        run.strategy.sync_gradients(run.module)
    rescale = run.group_rescale()
    if rescale is not None:
        torch._foreach_mul_(
            [p.grad for g in run.optimizer.param_groups for p in g["params"] if p.grad is not None], rescale
        )
    prepare(run, hooks, run.optimizer)


def prepare(run: Run, hooks: BoundHooks, optimizer: torch.optim.Optimizer) -> None:
    """Bring gradients to their final size: unscaled, seen by plugins, clipped."""
    run.precision.unscale(optimizer)
    hooks.on_before_optimizer_step(optimizer)
    hooks.on_clip_gradients(optimizer)


def update(
    run: Run, hooks: BoundHooks, optimizer: torch.optim.Optimizer, closure: Callable[[], Any] | None = None
) -> None:
    """Let ``optimizer`` change the weights once."""
    make_update = run.precision.update if closure is None else partial(run.precision.update, closure=closure)
    if hooks.around_optimizer_step(make_update, optimizer):
        run.count_update()
        hooks.on_after_optimizer_step(optimizer)


def read_loss(output: Any) -> tuple[Tensor, float | Tensor | None]:
    """Return the loss in what ``training_step`` returned, and its weight if it gave one.

    Raises:
        ModuleError: If there is no loss in it that backward can start from.
    """
    loss, weight = (output.get("loss"), output.get("weight")) if isinstance(output, dict) else (output, None)
    if not isinstance(loss, Tensor):
        found = (
            f"a dict with the keys {sorted(map(str, output))}" if isinstance(output, dict) else type(output).__name__
        )
        raise ModuleError(
            f"training_step returned {found}, in which there is no loss tensor. Allowed: a scalar tensor, a dict with "
            "the key 'loss' (and 'weight' if the loss is a sum), or None to skip the batch."
        )
    if loss.numel() != 1:
        raise ModuleError(f"the loss has shape {tuple(loss.shape)}; it must be one number. Did you mean loss.mean()?")
    if not loss.requires_grad:
        raise ModuleError(
            "the loss does not require grad, so backward has nowhere to go. Was it detached, computed under "
            "torch.no_grad(), or are all parameters frozen?"
        )
    return loss, weight
