"""Which step a fit runs, and why it is not the plain one. It asks what `trainkit.loops.steps.choose_step` asks."""

from __future__ import annotations

from collections.abc import Iterator

from trainkit.hooks.manager import HookManager
from trainkit.hooks.specs import HOOKS, STEP_HOOKS
from trainkit.loops.closure import takes_closure
from trainkit.loops.run import FitRun
from trainkit.module import TrainModule
from trainkit.precision.base import Precision
from trainkit.reflection import overrides
from trainkit.strategies.base import Strategy


def which_step(run: FitRun, plugins: HookManager) -> tuple[str, list[str]]:
    """Return the kind of step that ``run``, whose first epoch is settled, is going to make, and reasons."""
    module = run.module
    if run.compile_step is not None:
        return "compiled", ["the Trainer was asked for it; the first steps are eager, and later ones compared with it"]
    if not module.automatic_optimization:
        return "manual", ["automatic_optimization is False: training_step makes the updates"]
    if not run.optimizers:
        return "manual", ["configure_optimizers gave none: training_step alone"]
    if run.splits_batches:
        return "split", ["accumulate_grad_batches='auto': a batch that does not fit into memory is computed in parts"]
    if takes_closure(module, run.optimizer):
        own = overrides(module, "optimizer_step", TrainModule)
        who = f"{type(module).__name__}.optimizer_step" if own else type(run.optimizer).__name__
        return "closure", [f"{who} decides how often the loss is computed"]
    reasons = list(_beyond_plain(run, plugins))
    return ("general", reasons) if reasons else ("plain", [])


def _beyond_plain(run: FitRun, plugins: HookManager) -> Iterator[str]:
    if run.strategy.is_distributed:
        yield f"{run.strategy.world_size} ranks exchange gradients"
    if run.accumulation.size > 1:
        yield f"an update takes {run.accumulation.size} batches"
    if run.accumulation.batches:
        yield "the checkpoint is of the middle of an accumulation group"
    parts = (
        (run.module, TrainModule, ("backward", "optimizer_zero_grad")),
        (run.precision, Precision, ("scale", "backward", "unscale", "update")),
        (run.strategy, Strategy, ("gradient_sync", "skips_step") if not run.strategy.is_distributed else ()),
    )
    for part, base, names in parts:
        own = [name for name in names if overrides(part, name, base)]
        if own:
            yield f"{type(part).__name__} has its own {' and '.join(own)}"
    for hook in HOOKS:
        if hook in STEP_HOOKS and (who := plugins.order(hook)):
            yield f"{' and '.join(dict.fromkeys(who))} joins {hook}"
