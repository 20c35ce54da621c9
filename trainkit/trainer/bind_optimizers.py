"""The module's optimizers, and what a call of ``step()`` on one of them does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from trainkit.errors import ConfigError, ModuleError, OptimizerError
from trainkit.hooks.bound import BoundHooks
from trainkit.loops.closure import refuse_step, step_within
from trainkit.loops.manual import step_by_hand
from trainkit.loops.offered_closure import needs_closure
from trainkit.module import TrainModule
from trainkit.module.optimizers import SchedulerConfig, configure, parameters_of
from trainkit.output import warn
from trainkit.reflection import overrides
from trainkit.strategies.base import Strategy
from trainkit.trainer.arguments import OptimizationArguments
from trainkit.trainer.hidden_layers import warn_of_hidden_layers
from trainkit.trainer.sharded_optimizers import refuse_unfit


def make_optimizers(module: TrainModule) -> tuple[list[torch.optim.Optimizer], list[SchedulerConfig]]:
    """Ask the module for its optimizers and schedulers, in whatever shape it returns them.

    Raises:
        ModuleError: If it has no ``configure_optimizers``.
        OptimizerError: If what it returned cannot be used.
    """
    if not overrides(module, "configure_optimizers", TrainModule):
        raise ModuleError(
            f"{type(module).__name__} has no configure_optimizers, which fit needs. Define it; it may return "
            "torch.optim.Adam(self.parameters()), or None to train nothing."
        )
    optimizers, schedulers = configure(module.configure_optimizers(), automatic=module.automatic_optimization)
    # By identity: parameters compare element by element.
    own = {id(parameter) for parameter in module.parameters()}
    for optimizer in optimizers:
        _warn_of_strangers(optimizer, own, type(module).__name__)
    if optimizers:
        warn_of_hidden_layers(module, optimizers)
    return optimizers, schedulers


def _warn_of_strangers(optimizer: torch.optim.Optimizer, own: set[int], module_name: str) -> None:
    parameters = parameters_of(optimizer)
    strangers = sum(id(parameter) not in own for parameter in parameters)
    if strangers:
        warn(
            f"{strangers} of the {len(parameters)} parameters of {type(optimizer).__name__} are not among "
            f"{module_name}.parameters(), so no checkpoint holds them. Was a layer replaced after it was given to the "
            "optimizer? Layers in a plain list or dict belong in torch.nn.ModuleList or ModuleDict."
            + (f" No parameter of {module_name} itself is trained." if own and strangers == len(parameters) else "")
        )


def check_optimizers(
    module: TrainModule,
    optimizers: list[torch.optim.Optimizer],
    strategy: Strategy,
    arguments: OptimizationArguments,
) -> None:
    """Refuse optimizers, or arguments of the Trainer, that do not go with the way in which the module is optimized.

    Raises:
        OptimizerError: If automatic optimization has several optimizers.
        ConfigError: If arguments of the Trainer need automatic optimization and it is off.
    """
    refuse_unfit(optimizers)
    _refuse_sharded_states(optimizers)
    if not module.automatic_optimization:
        _refuse_automatic_arguments(module, arguments)
        return
    if len(optimizers) > 1:
        raise OptimizerError(
            f"{type(module).__name__}.configure_optimizers returned {len(optimizers)} optimizers, and automatic "
            "optimization takes one.\n"
            "    to do        if all are to be stepped after each backward, return JointOptimizer(...) of them;\n"
            "                 else set self.automatic_optimization = False in __init__, and call backward and step"
        )
    if arguments.splits_batches:
        _refuse_to_split(module, optimizers, strategy)


def wrapped_step(module: TrainModule, hooks: BoundHooks) -> Callable[..., Any]:
    """Return what ``step()`` of a wrapped optimizer does, which is called with ``(run, optimizer, closure)``."""
    # Partial objects, not lambdas: each Python function would lie between `Trainer.fit` and the user's step.
    if not module.automatic_optimization:
        return partial(step_by_hand, hooks=hooks)
    if overrides(module, "optimizer_step", TrainModule):
        return partial(step_within, hooks=hooks)
    return refuse_step


def _refuse_sharded_states(optimizers: list[torch.optim.Optimizer]) -> None:
    """Raise if each rank has a part of an optimizer's state only, which is in no checkpoint of copies."""
    for each in optimizers:
        # By the name, as a look at the class would import all of torch's distributed optimizers.
        if any(base.__name__ == "ZeroRedundancyOptimizer" for base in type(each).__mro__):
            raise OptimizerError(
                "ZeroRedundancyOptimizer keeps a part of its state on each rank, and a checkpoint of rank 0 would lack "
                "those of the others.\n"
                "    to do        return the optimizer in it, which every rank then has whole; where that takes too "
                "much memory,\n                 use a strategy that shards the module too"
            )


def _refuse_to_split(module: TrainModule, optimizers: list[torch.optim.Optimizer], strategy: Strategy) -> None:
    """Raise if a step cannot be begun anew with parts of its batch."""
    why = None
    if overrides(module, "optimizer_step", TrainModule):
        why = f"{type(module).__name__} has its own optimizer_step, which calls the step"
    elif needed := [type(each).__name__ for each in optimizers if needs_closure(each)]:
        why = f"{needed[0]} evaluates the loss several times per update"
    elif strategy.is_distributed and any(isinstance(part, torch.nn.SyncBatchNorm) for part in module.modules()):
        why = "SyncBatchNorm lets ranks meet in the middle of a step, where one that has run out of memory is missing"
    if why is not None:
        raise ConfigError(
            f"accumulate_grad_batches='auto' cannot be used: {why}.\n    to do        give a number of batches"
        )


def _refuse_automatic_arguments(module: TrainModule, arguments: OptimizationArguments) -> None:
    # Taken for granted in silence, they would do nothing: the loop neither clips nor counts batches in this mode.
    wrong = []
    if arguments.gradient_clip_val:
        wrong.append((f"gradient_clip_val={arguments.gradient_clip_val}", "self.clip_gradients(optimizer, ...)"))
    if arguments.accumulation != {0: 1} or arguments.splits_batches:
        wrong.append(
            (f"accumulate_grad_batches={arguments.accumulate_grad_batches!r}", "optimizer.step() every few batches")
        )
    for argument, instead in wrong:
        raise ConfigError(
            f"Trainer({argument}) needs automatic optimization, and {type(module).__name__} has automatic_optimization "
            f"= False. Leave it out and call {instead} in training_step."
        )
