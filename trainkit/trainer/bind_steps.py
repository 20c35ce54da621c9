"""The parts of a run that come from the module: its steps and its optimizers, bound to strategy and precision."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, cast

import torch

from trainkit.data.combined import LOADERS
from trainkit.data.module import DataModule
from trainkit.errors import ConfigError, ModuleError, OptimizerError
from trainkit.hooks.dispatch import BoundHooks
from trainkit.loops.closure import refuse_update, takes_closure, update_to_count
from trainkit.loops.manual import manual_update
from trainkit.loops.optimizer_handle import OptimizerHandle
from trainkit.loops.run import Run
from trainkit.module import TrainModule
from trainkit.module.optimizers import SchedulerConfig, configure
from trainkit.precision.base import Precision
from trainkit.reflection import overrides
from trainkit.strategies.base import Strategy
from trainkit.trainer.arguments import Optimisation
from trainkit.types import Batch, Phase, Stage

STEP_OF_PHASE = {Phase.VALIDATE: "validation_step", Phase.TEST: "test_step", Phase.PREDICT: "predict_step"}


def check_module(module: Any, stage: Stage) -> TrainModule:
    """Return ``module`` if it is one.

    Raises:
        ModuleError: If it is not: nothing was given, a class, a plain ``nn.Module``, or something else.
    """
    if module is None:
        raise ModuleError(f"trainer.{stage}() needs a module the first time: trainer.{stage}(module, ...).")
    if isinstance(module, type):
        raise ModuleError(
            f"trainer.{stage}() needs an object and was given the class {module.__name__}. Did you mean "
            f"{module.__name__}()?"
        )
    if not isinstance(module, TrainModule):
        if isinstance(module, (*LOADERS, DataModule, list)):
            raise ModuleError(
                f"trainer.{stage}() was given a {type(module).__name__} as its module. The module comes first: "
                f"trainer.{stage}(module, ...)."
            )
        kind = "a torch.nn.Module, but no TrainModule" if isinstance(module, torch.nn.Module) else "no TrainModule"
        raise ModuleError(
            f"trainer.{stage}() was given a {type(module).__name__}, which is {kind}. Subclass trainkit.TrainModule."
        )
    return module


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
    own = {id(parameter) for parameter in module.parameters()}
    for optimizer in optimizers:
        _warn_of_strangers(optimizer, own, type(module).__name__)
    return optimizers, schedulers


def _warn_of_strangers(optimizer: torch.optim.Optimizer, own: set[int], module_name: str) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    strangers = sum(id(parameter) not in own for parameter in parameters)
    if strangers:
        warnings.warn(
            f"{strangers} of the {len(parameters)} parameters of {type(optimizer).__name__} are not among "
            f"{module_name}.parameters(), so no checkpoint holds them. Was a layer replaced after it was given to the "
            "optimizer? Layers in a plain list or dict belong in torch.nn.ModuleList or ModuleDict.",
            stacklevel=2,
        )


def connect_optimizers(run: Run, hooks: BoundHooks, settings: Optimisation) -> None:
    """Settle how ``run`` computes gradients and updates, now that its optimizers exist.

    Raises:
        OptimizerError: If automatic optimization has several optimizers.
        ConfigError: If arguments of the Trainer need automatic optimization and it is off.
    """
    module = run.module
    if module.automatic_optimization:
        if len(run.optimizers) > 1:
            raise OptimizerError(
                f"{type(module).__name__}.configure_optimizers returned {len(run.optimizers)} optimizers, and "
                "automatic optimization takes one. Set self.automatic_optimization = False in __init__ and call "
                "backward and step yourself."
            )
        if settings.splits_batches:
            _refuse_to_split(run)
        update = partial(update_to_count, run, hooks) if run.optimizers and takes_closure(run) else refuse_update
    else:
        _refuse_automatic_arguments(module, settings)
        update = partial(manual_update, run, hooks)
    # A handle passes for its optimizer.
    run.handles = [
        cast(torch.optim.Optimizer, OptimizerHandle(optimizer, module, update)) for optimizer in run.optimizers
    ]
    if overrides(module, "backward", TrainModule):
        run.backward = lambda loss: module.backward(run.precision.scale(loss))
    else:
        run.backward = run.precision.backward
    if run.optimizers and overrides(module, "optimizer_zero_grad", TrainModule):
        run.zero_grad = lambda batch_idx: module.optimizer_zero_grad(run.progress.epoch, batch_idx, run.handles[0])
    elif run.optimizers:
        zero_grad = run.optimizers[0].zero_grad
        run.zero_grad = lambda batch_idx: zero_grad()


def _refuse_to_split(run: Run) -> None:
    """Raise if a step cannot be begun anew with parts of its batch."""
    module, why = run.module, None
    if overrides(module, "optimizer_step", TrainModule):
        why = f"{type(module).__name__} has its own optimizer_step, which calls the step"
    elif run.optimizers and isinstance(run.optimizer, torch.optim.LBFGS):
        why = "LBFGS evaluates the loss several times per update"
    elif run.strategy.is_distributed and any(isinstance(part, torch.nn.SyncBatchNorm) for part in module.modules()):
        why = "SyncBatchNorm lets ranks meet in the middle of a step, where one that has run out of memory is missing"
    if why is not None:
        raise ConfigError(
            f"accumulate_grad_batches='auto' cannot be used: {why}.\n    to do        give a number of batches"
        )


def _refuse_automatic_arguments(module: TrainModule, settings: Optimisation) -> None:
    wrong = []
    if settings.gradient_clip_val:
        wrong.append((f"gradient_clip_val={settings.gradient_clip_val}", "self.clip_gradients(optimizer, ...)"))
    if settings.accumulation != {0: 1} or settings.splits_batches:
        wrong.append(
            (f"accumulate_grad_batches={settings.accumulate_grad_batches!r}", "optimizer.step() every few batches")
        )
    for argument, instead in wrong:
        raise ConfigError(
            f"Trainer({argument}) needs automatic optimization, and {type(module).__name__} has automatic_optimization "
            f"= False. Leave it out and call {instead} in training_step."
        )


def connect_steps(run: Run, phase: Phase, num_loaders: int) -> None:
    """Bind the module's step for ``phase``, called with as many arguments as it takes.

    Raises:
        ModuleError: If a step is missing, or does not take ``dataloader_idx`` although there are several loaders.
    """
    name = STEP_OF_PHASE[phase]
    if phase is not Phase.PREDICT and not overrides(run.module, name, TrainModule):
        raise ModuleError(
            f"{type(run.module).__name__} has no {name}, which {phase} needs. Define {name}(self, batch, batch_idx)."
        )
    own = getattr(run.module, name)
    run.evaluation_steps[phase] = _fit_arguments(run.strategy.evaluation_step(own), own, num_loaders, name)


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
    if num_loaders == 1 and not requires_more_than(own, 2):
        return lambda batch, batch_idx, dataloader_idx: step(batch, batch_idx)
    return step


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
    step = strategy.training_step_alone(module) if alone else strategy.training_step(module)
    names = positional_arguments(module.training_step)
    if names is not None and len(names) < 2:
        return lambda batch, batch_idx: step(batch)
    return step


def _check_arguments(step: Callable[..., Any], name: str, provided: tuple[str, ...]) -> None:
    """Raise `ModuleError` if ``step`` takes no batch, or needs more than is provided."""
    signature = inspect.signature(step)
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


def batch_conversion(precision: Precision) -> Callable[[Batch], Batch] | None:
    """Return what changes the dtypes of a batch, or None if ``precision`` leaves them as they are."""
    converts = precision.dtype is not None or overrides(precision, "convert_batch", Precision)
    return precision.convert_batch if converts else None


def sync_batchnorm(module: TrainModule) -> None:
    """Let BatchNorm layers share their statistics between ranks."""
    for name, child in list(module.named_children()):
        convert = torch.nn.SyncBatchNorm.convert_sync_batchnorm
        setattr(module, name, convert(child))  # type: ignore[no-untyped-call]  # torch leaves it untyped


@contextmanager
def torch_flags(settings: Optimisation) -> Iterator[None]:
    """Set torch's global switches for one call, and put them back afterwards."""
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark = torch.backends.cudnn.benchmark
    if settings.deterministic is not None:
        torch.use_deterministic_algorithms(bool(settings.deterministic), warn_only=settings.deterministic == "warn")
    if settings.benchmark is not None:
        torch.backends.cudnn.benchmark = settings.benchmark
    try:
        with torch.autograd.set_detect_anomaly(True) if settings.detect_anomaly else nullcontext():
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
