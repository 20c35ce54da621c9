"""Which step function fits a module; the usual one is in optimize.py."""

from __future__ import annotations

from trainkit.loops.closure import step_with_closure, takes_closure
from trainkit.loops.drifting_ranks import compared_early, compared_now_and_then, exchanges_at_steps
from trainkit.loops.manual import manual_step
from trainkit.loops.oom_split import step_in_parts
from trainkit.loops.optimize import step
from trainkit.loops.run import FitRun, Step
from trainkit.loops.sample_count import counting_samples


def choose_step(run: FitRun) -> Step:
    """Return the step function that fits the module: chosen once, when a fit starts."""
    step = _step_of(run)
    if exchanges_at_steps(run.strategy):
        step = compared_now_and_then(step)
    return counting_samples(step) if run.counts_samples else step


def _step_of(run: FitRun) -> Step:
    # What a module cannot have with a compiled step was refused when the run was built.
    if run.compile_step is not None:
        return run.compile_step(run)
    if not run.module.automatic_optimization or not run.optimizers:
        return compared_early(manual_step) if exchanges_at_steps(run.strategy) else manual_step
    # Ahead of closures: where an optimizer needs one, splitting was refused.
    if run.splits_batches:
        return step_in_parts
    if takes_closure(run.module, run.optimizer):
        return step_with_closure
    return step
