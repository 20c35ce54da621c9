"""The step of most runs, without what cannot happen in them."""

from __future__ import annotations

from torch import Tensor

from trainkit.hooks.dispatch import BoundHooks
from trainkit.loops.optimize import close_group, learn_from, step
from trainkit.loops.run import Run
from trainkit.module import TrainModule
from trainkit.precision.base import Precision
from trainkit.reflection import overrides
from trainkit.strategies.base import Strategy
from trainkit.types import Batch, StepOutput


def plain_step(run: Run, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
    """Do what `step` does, where every batch makes an update, in one process, and nothing is cast or scaled.

    What is left out here costs 15 us, in a tiny step that takes 110 us when written by hand
    (``docs/explanation/what-a-step-costs.md``).
    """
    if hooks.joined_in_step:
        return step(run, hooks, batch, batch_idx, is_last)
    loss = run.training_step(batch, batch_idx)
    if not (isinstance(loss, Tensor) and loss.requires_grad and loss.numel() == 1):
        # No loss by itself: a dict, None to skip the batch, or a mistake.
        run.stepped = False
        outputs = learn_from(run, hooks, loss, batch_idx)
        close_group(run, hooks, synced=True)
        return outputs
    optimizer = run.optimizers[0]
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    optimizer.step()
    run.progress.count_update()
    # For the hook that comes next, and nobody else.
    return {"loss": loss.detach()} if hooks.on_train_batch_end else {}


def is_plain(run: Run) -> bool:
    """Whether `plain_step` is right for ``run``: no part of it changes what is left out."""
    changeable = (
        (run.module, TrainModule, ("backward", "optimizer_step", "optimizer_zero_grad")),
        (run.precision, Precision, ("autocast", "scale", "backward", "unscale", "update")),
        (run.strategy, Strategy, ("gradient_sync", "skips_step")),
    )
    return (
        run.accumulation == {0: 1}
        and run.progress.group_batches == 0
        and not run.strategy.is_distributed
        and run.precision.dtype is run.precision.autocast_dtype is None
        and not any(overrides(part, name, base) for part, base, names in changeable for name in names)
    )
