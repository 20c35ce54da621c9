"""Which step function fits a module; the usual one is in optimize.py."""

from __future__ import annotations

from collections.abc import Callable

from trainkit.hooks.dispatch import BoundHooks
from trainkit.loops.closure import step_with_closure, takes_closure
from trainkit.loops.manual import manual_step
from trainkit.loops.oom_split import micro_step
from trainkit.loops.optimize import detached, step
from trainkit.loops.plain import is_plain, plain_step
from trainkit.loops.run import Run
from trainkit.types import Batch, StepOutput

Step = Callable[[Run, BoundHooks, Batch, int, bool], StepOutput]


def choose_step(run: Run) -> Step:
    """Return the step function that fits the module: chosen once, when a fit starts."""
    if run.compile_step is not None:
        return run.compile_step(run)
    if not run.module.automatic_optimization:
        return manual_step
    if not run.optimizers:
        return step_without_optimizer
    if takes_closure(run):
        return step_with_closure
    if run.splits_batches:
        return micro_step
    return plain_step if is_plain(run) else step


def step_without_optimizer(run: Run, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
    """Call ``training_step`` only: ``configure_optimizers`` returned None."""
    run.stepped = False
    with run.precision.autocast():
        output = hooks.around_training_step(run.training_step, batch, batch_idx)
    if output is None:
        return {}
    return detached(output)
