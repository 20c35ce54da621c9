"""One optimisation step: forward and backward for a batch, and an update when its group is complete."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainkit.errors import ModuleError
from trainkit.hooks.bound import BoundHooks
from trainkit.loops.run import FitRun
from trainkit.loops.unequal_ranks import of_own_share
from trainkit.module.optimizers import parameters_of
from trainkit.types import Batch, StepOutput


def step(run: FitRun, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
    """Forward and backward for one batch; update the weights if it closes its accumulation group.

    The first branch is what most runs take: every batch makes an update, in one process, nothing is scaled or
    overridden, and no plugin joins within the step but to clip. It is the code below it, less what cannot happen then,
    and saves 15 us of a tiny step that takes 110 us when written by hand (``docs/explanation/what-a-step-costs.md``).
    """
    if run.is_plain and not hooks.joined_in_step:
        loss = run.forward(batch, batch_idx)
        if not (isinstance(loss, Tensor) and loss.requires_grad and loss.numel() == 1):
            # No loss by itself: a dict, None to skip the batch, or a mistake.
            run.counted_update = False
            outputs = backward_unless_skipped(run, hooks, loss, batch_idx)
            close_group(run, hooks, synced=True)
            return outputs
        optimizer = run.optimizer
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if hooks.on_clip_gradients:
            clip_alone(run, hooks, optimizer, batch_idx)
        optimizer.step()
        run.progress.count_update()
        # For the hook that comes next, and nobody else.
        return {"loss": loss.detach()} if hooks.asks_for_outputs else {}

    if run.is_plain_on_ranks and not hooks.joined_in_step:
        return plain_step_on_ranks(run, hooks, batch, batch_idx)
    run.counted_update = False
    closes_group = run.accumulation.closes(batch_idx, is_last)
    if run.is_alone:
        outputs = forward_and_backward(run, hooks, batch, batch_idx)
    else:
        # Ranks exchange gradients once for each update: with the batch that closes the group.
        with run.strategy.gradient_sync(enabled=closes_group):
            outputs = forward_and_backward(run, hooks, batch, batch_idx)
    if closes_group:
        # A batch that was skipped has exchanged nothing.
        close_group(run, hooks, synced=bool(outputs))
    return outputs


def plain_step_on_ranks(run: FitRun, hooks: BoundHooks, batch: Batch, batch_idx: int) -> StepOutput:
    """The first branch of `step` where ranks exchange gradients in backward; it saves what that saves."""
    optimizer, outputs = run.optimizer, None
    with run.strategy.gradient_sync(enabled=True):
        loss = run.forward(batch, batch_idx)
        if isinstance(loss, Tensor) and loss.requires_grad and loss.numel() == 1:
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        else:
            run.counted_update = False
            outputs = backward_unless_skipped(run, hooks, loss, batch_idx)
    if outputs is not None:
        close_group(run, hooks, synced=bool(outputs))
        return outputs
    if hooks.on_clip_gradients:
        clip_alone(run, hooks, optimizer, batch_idx)
    optimizer.step()
    run.progress.count_update()
    return {"loss": loss.detach()} if hooks.asks_for_outputs else {}


def forward_and_backward(run: FitRun, hooks: BoundHooks, batch: Batch, batch_idx: int) -> StepOutput:
    """Add the gradients of one batch to those of its group; return its loss, or nothing if the batch was skipped."""
    with run.precision.autocast():
        output = hooks.around_training_step(run.training_step, batch, batch_idx)
    return backward_unless_skipped(run, hooks, output, batch_idx)


def backward_unless_skipped(run: FitRun, hooks: BoundHooks, output: Any, batch_idx: int) -> StepOutput:
    """Do backward for what ``training_step`` returned; return it as plugins get it, or nothing if it was None."""
    # All ranks skip a batch or none does: one that skipped alone would leave the others waiting in backward.
    if output is None if run.is_alone else run.strategy.skips_step(output is None):
        return {}
    add_gradients(run, hooks, output, batch_idx)
    run.accumulation.count_batch()
    return detached(output)


def add_gradients(run: FitRun, hooks: BoundHooks, output: Any, batch_idx: int, share: float = 1.0) -> None:
    """Do backward from what ``training_step`` returned for a batch, or for a part of one with ``share`` of its samples.

    The loss is divided here: by the batches of its accumulation group, of which each weighs the same.
    """
    loss, weight = read_loss(output, weighs=run.module.weighs_losses)
    if run.weight_of_batch is not None:
        loss, weight = of_own_share(run.weight_of_batch(batch_idx), loss, weight)
    group = run.accumulation
    # The gradients of the last update stay readable until here, as `on_train_batch_end` promises.
    if not group.is_open:
        group.open(batch_idx, weighted=weight is not None)
        if hooks.on_before_zero_grad:
            hooks.on_before_zero_grad(run.optimizer)
        run.zero_grad(batch_idx)
    loss = group.divide(loss, weight, share)
    if hooks.on_before_backward:
        hooks.on_before_backward(loss)
    hooks.around_backward(run.backward, loss)
    if hooks.on_after_backward:
        hooks.on_after_backward()


def detached(output: Tensor | dict[str, Any]) -> StepOutput:
    """Return what ``training_step`` returned as plugins get it: a dict whose tensors do not keep the graph alive."""
    if isinstance(output, Tensor):
        return {"loss": output.detach()}
    return {key: value.detach() if isinstance(value, Tensor) else value for key, value in output.items()}


def close_group(run: FitRun, hooks: BoundHooks, *, synced: bool = False) -> None:
    """Update the weights with the gradients that wait, if there are any.

    Args:
        run: The run.
        hooks: Its hooks.
        synced: Whether the ranks have exchanged them: they have unless the group closes earlier than was foreseen.
    """
    if run.accumulation.batches:
        if not synced:
            run.optimizer_modes.train()  # training may have stopped behind a validation, in the middle of the group
        prepare_group(run, hooks, synced=synced)
        update(run, hooks, run.optimizer)
        run.accumulation.close()


def prepare_group(run: FitRun, hooks: BoundHooks, *, synced: bool) -> None:
    """Average the gradients of a group that closes, over ranks and over batches, and prepare them for the update."""
    if not synced:
        run.strategy.sync_gradients(run.module)
    rescale = run.accumulation.rescale(run.strategy)
    if rescale is not None:
        multiply_gradients(run.optimizer, rescale)
    prepare(run, hooks, run.optimizer)


def clip_alone(run: FitRun, hooks: BoundHooks, optimizer: torch.optim.Optimizer, batch_idx: int) -> None:
    """Let plugins clip the gradients of one batch, a group of its own, which a checkpoint that is saved there holds."""
    group = run.accumulation
    group.open(batch_idx, weighted=False)
    group.count_batch()
    hooks.on_clip_gradients(optimizer)
    group.close()


def multiply_gradients(optimizer: torch.optim.Optimizer, factor: float | Tensor) -> None:
    """Multiply all gradients of ``optimizer``, in place."""
    gradients = [parameter.grad for parameter in parameters_of(optimizer) if parameter.grad is not None]
    torch._foreach_mul_(gradients, factor)


def prepare(run: FitRun, hooks: BoundHooks, optimizer: torch.optim.Optimizer) -> None:
    """Bring gradients to their final size: unscaled, seen by plugins, clipped."""
    # In this order, since a bound for gradients is meant for their true size, and plugins look at it too.
    run.precision.unscale(optimizer)
    hooks.on_before_optimizer_step(optimizer)
    hooks.on_clip_gradients(optimizer)


def update(
    run: FitRun, hooks: BoundHooks, optimizer: torch.optim.Optimizer, closure: Callable[[], Any] | None = None
) -> None:
    """Let ``optimizer`` change the weights once."""
    make_update = run.precision.update if closure is None else partial(run.precision.update, closure=closure)
    # False where a scaler skipped an update whose gradients overflowed: then nothing is counted, and no schedule steps.
    if hooks.around_optimizer_step(make_update, optimizer):
        run.count_update()
        hooks.on_after_optimizer_step(optimizer)


def read_loss(output: Any, *, weighs: bool = True) -> tuple[Tensor, float | Tensor | None]:
    """Return the loss in what ``training_step`` returned, and its weight if it gave one and ``weighs``.

    Raises:
        ModuleError: If there is no loss in it that backward can start from, or a weight that is not one number.
    """
    loss, weight = (output.get("loss"), output.get("weight")) if isinstance(output, dict) else (output, None)
    if not isinstance(loss, Tensor):
        raise ModuleError(
            f"training_step returned {_described(output)}, in which there is no loss tensor. Allowed: a scalar tensor, "
            "a dict with the key 'loss' (and 'weight' if the loss is a sum), or None to skip the batch."
            + to_return(output)
        )
    require_scalar(loss)
    if not loss.requires_grad:
        raise ModuleError(
            "the loss does not require grad, so backward has nowhere to go. Was it detached, computed under "
            "torch.no_grad(), or are all parameters frozen?"
        )
    return loss, _one_number(weight) if weighs else None


def _one_number(weight: Any) -> float | Tensor | None:
    """Return the ``weight`` of a loss, which may have come as an array of one element."""
    if weight is None or isinstance(weight, int | float):
        return weight
    shape = getattr(weight, "shape", None)
    if shape is None or math.prod(shape) != 1:
        what = type(weight).__name__ if shape is None else f"{type(weight).__name__} of shape {tuple(shape)}"
        raise ModuleError(
            f"training_step returned a 'weight' that is a {what}, and not one number. With it 'loss' is a sum, which "
            "is divided by 'weight': the number of samples or tokens in it. Give weights of samples another key."
        )
    return torch.as_tensor(weight).detach().reshape(())


def require_scalar(loss: Tensor) -> None:
    """Raise `ModuleError` if ``loss`` is not one number."""
    if loss.numel() != 1:
        raise ModuleError(f"the loss has shape {tuple(loss.shape)}; it must be one number. Did you mean loss.mean()?")


def to_return(output: Any) -> str:
    """Return a sentence that says what to return in place of ``output``, which is no loss; empty where that is open."""
    loss = output.get("loss") if isinstance(output, dict) else output
    if isinstance(loss, float | int) or hasattr(loss, "__array__"):
        return " Return the tensor itself, without .item(), float() or .numpy()."
    if isinstance(output, tuple | list):
        return " To return more than the loss, return {'loss': loss, ...}."
    return ""


def _described(output: Any) -> str:
    if not isinstance(output, dict):
        return type(output).__name__
    if "loss" in output:
        return f"a dict whose 'loss' is a {type(output['loss']).__name__}"
    return f"a dict with the keys {sorted(map(str, output))}"
