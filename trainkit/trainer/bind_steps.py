"""The module's steps, bound to the strategy: each is called with as many arguments as it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from trainkit.errors import ModuleError
from trainkit.module import TrainModule
from trainkit.reflection import method_of, overrides
from trainkit.strategies.base import Strategy
from trainkit.types import Phase

STEP_OF_PHASE = {Phase.VALIDATE: "validation_step", Phase.TEST: "test_step", Phase.PREDICT: "predict_step"}


def training_step(strategy: Strategy, module: TrainModule, *, alone: bool = False) -> Callable[..., Any]:
    """Return what is called as ``(batch, batch_idx)`` for a ``training_step`` that may want the batch only.

    Args:
        strategy: Runs it.
        module: Has it.
        alone: Whether ranks must not wait for each other in it.

    Raises:
        ModuleError: If the module has none.
    """
    if not overrides(module, "training_step", TrainModule):
        raise ModuleError(
            f"{type(module).__name__} has no training_step, which fit needs. Define training_step(self, batch, "
            "batch_idx)."
        )
    _check_arguments(module.training_step, "training_step", ("batch", "batch_idx"))
    # Through the strategy: DistributedDataParallel averages gradients only of what runs inside its own forward.
    step = strategy.training_step_alone(module) if alone else strategy.training_step(module)
    names = positional_arguments(module.training_step)
    if names is not None and len(names) < 2:
        return lambda batch, batch_idx: step(batch)
    return step


def evaluation_step(strategy: Strategy, module: TrainModule, phase: Phase, num_loaders: int) -> Callable[..., Any]:
    """Return what is called as ``(batch, batch_idx, dataloader_idx)`` for the module's step for ``phase``.

    Raises:
        ModuleError: If the step is missing, or does not take ``dataloader_idx`` although there are several loaders.
    """
    name = STEP_OF_PHASE[phase]
    if phase is not Phase.PREDICT and not overrides(module, name, TrainModule):
        raise ModuleError(
            f"{type(module).__name__} has no {name}, which {phase} needs. Define {name}(self, batch, batch_idx)."
        )
    # Arguments are counted on the user's own function: what the strategy returns takes anything.
    own = method_of(module, name, TrainModule)
    return _fit_arguments(strategy.evaluation_step(own), own, num_loaders, name)


def _fit_arguments(
    step: Callable[..., Any], own: Callable[..., Any], num_loaders: int, name: str
) -> Callable[..., Any]:
    _check_arguments(own, name, ("batch", "batch_idx", "dataloader_idx"))
    names = positional_arguments(own)
    if num_loaders > 1 and names is not None and len(names) < 3:
        raise ModuleError(
            f"there are {num_loaders} loaders, so {name} needs a third argument: {name}(self, batch, batch_idx, "
            "dataloader_idx)."
        )
    if names is not None and len(names) < 2:
        return lambda batch, batch_idx, dataloader_idx: step(batch)
    # With one loader the index may be left out, and a step that has a default for it keeps that.
    if num_loaders == 1 and not requires_more_than(own, 2):
        return lambda batch, batch_idx, dataloader_idx: step(batch, batch_idx)
    return step


def _check_arguments(step: Callable[..., Any], name: str, provided: tuple[str, ...]) -> None:
    """Raise `ModuleError` if ``step`` takes no batch, or needs more than is provided."""
    # At the start of a call, rather than as a TypeError out of the loop.
    signature = inspect.signature(step)
    if next(iter(signature.parameters), "") == "self":
        raise ModuleError(
            f"{name}{signature} was assigned to the module, and Python binds only what is defined in a class.\n"
            "    to do        assign types.MethodType(function, module)"
        )
    needed = [
        p
        for p in signature.parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    by_name_only = any(p.kind is p.KEYWORD_ONLY for p in needed)
    if len(needed) > len(provided) or by_name_only or not signature.parameters:
        raise ModuleError(
            f"{name}{signature} cannot be called with what there is.\n"
            f"    allowed      {name}(self, {', '.join(provided)}), of which the last may be left out"
        )
    # Arguments are passed by position, so names in another order, or without ``self``, would stand for something else.
    misplaced = [p for p, meant in zip(signature.parameters, provided, strict=False) if p != meant and p in provided]
    if misplaced:
        raise ModuleError(
            f"{name}{signature} has {misplaced[0]!r} at a wrong place, and arguments are passed by position.\n"
            f"    to do        {name}(self, {', '.join(provided[: max(2, len(signature.parameters))])})"
        )


def positional_arguments(function: Callable[..., Any]) -> list[str] | None:
    """Return the names of the positional arguments, or None if it takes any number of them."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def requires_more_than(function: Callable[..., Any], number: int) -> bool:
    """Return whether ``function`` cannot be called with so many positional arguments, but needs more."""
    parameters = inspect.signature(function).parameters.values()
    needed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return len(needed) > number
