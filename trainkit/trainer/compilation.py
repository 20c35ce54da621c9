"""What ``Trainer(compile=...)`` does: compile the layers of a module, or a whole training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from trainkit.callbacks.builtin.gradient_clipping import GradientClipping
from trainkit.checkpoint.scheduler_states import is_of_torch
from trainkit.errors import CompileError
from trainkit.hooks.manager import HookManager
from trainkit.loops.compiled.cuda_graph import CudaRecorder, cuda_graphs
from trainkit.loops.compiled.graph import Backend
from trainkit.loops.compiled.optimizer import own_count
from trainkit.loops.compiled.step import CompiledStep
from trainkit.loops.offered_closure import needs_closure
from trainkit.loops.run import FitRun, Step
from trainkit.module import TrainModule
from trainkit.module.joint_optimizer import parts_of
from trainkit.precision.base import Precision
from trainkit.reflection import overrides
from trainkit.strategies.base import Strategy
from trainkit.trainer.arguments import OptimizationArguments
from trainkit.trainer.bind_steps import training_step

WITHIN = (
    "around_training_step",
    "on_before_backward",
    "around_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_clip_gradients",
    "around_optimizer_step",
)
"""Hooks that fire in the middle of what becomes one graph."""


def compile_layers(module: TrainModule, strategy: Strategy) -> None:
    """Compile, in place, what ``training_step`` calls: the module's own ``forward`` and its children with parameters.

    Keys of the state stay as they are, and what is never called is never compiled.

    Raises:
        CompileError: If the strategy cannot do with compiled layers.
    """
    if strategy.compiles == "nothing":
        raise CompileError(
            f"compile=True cannot be used with strategy {strategy.name!r}, which calls copies of the module.\n"
            "    to do        use one device or strategy='ddp', or leave compile out"
        )
    # In place, since a wrapper around a layer would put "_orig_mod." into the names of its parameters.
    for part in (module, *_layers(module)):
        if part._compiled_call_impl is None:
            part.compile()


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        # Containers have no forward of their own; what has no parameters is cheaper than the call of a compiled layer.
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _layers(child)
        elif next(child.parameters(), None) is not None:
            yield child


def step_compiler(
    module: TrainModule,
    strategy: Strategy,
    precision: Precision,
    optimizers: Sequence[torch.optim.Optimizer],
    plugins: HookManager,
    arguments: OptimizationArguments,
) -> Callable[[FitRun], Step]:
    """Return what compiles the whole step of a run of these parts.

    Raises:
        CompileError: If it cannot be compiled; says what stands in the way.
    """
    # In the order in which a user would mend them: the module, where it runs, how it is updated, who listens.
    obstacle = (
        _module_obstacle(module)
        or _strategy_obstacle(strategy)
        or _update_obstacle(module, precision, optimizers)
        or next(filter(None, map(_optimizer_obstacle, parts_of(list(optimizers)))), None)
        or _plugin_obstacle(plugins)
    )
    if obstacle is not None:
        problem, remedy = obstacle
        raise CompileError(f'compile="{arguments.compile}" cannot be used: {problem}.\n    to do        {remedy}')
    # Called within the graph with a stand-in for the optimizer, and so not through the hook.
    clippers = [plugin for _, plugin in _joining(plugins, "on_clip_gradients")]

    def clip(module: TrainModule, optimizer: torch.optim.Optimizer) -> None:
        for clipper in clippers:
            clipper.on_clip_gradients(module, optimizer)

    bind_step = partial(training_step, strategy)
    return partial(CompiledStep, bind_step=bind_step, clip=clip, backend=_backend(strategy.device, arguments))


def _backend(device: torch.device, arguments: OptimizationArguments) -> Backend | None:
    """Return what makes code of a step; None is inductor."""
    if arguments.compile != "cuda-graph":
        return None
    if device.type != "cuda":
        raise CompileError(
            f'compile="cuda-graph" records what is launched on a CUDA device, and this is {device}.\n'
            '    to do        use compile="step"'
        )
    return cuda_graphs(CudaRecorder())


Obstacle = tuple[str, str]
"""What stands in the way of compiling, and what to do about it."""

_OTHERWISE = 'or leave compile="step" out'


def _module_obstacle(module: TrainModule) -> Obstacle | None:
    if module.automatic_optimization:
        return None
    name = type(module).__name__
    return f"{name} does backward and updates itself", f"return the loss from training_step, {_OTHERWISE}"


def _strategy_obstacle(strategy: Strategy) -> Obstacle | None:
    if strategy.compiles != "step":
        return (
            f"strategy {strategy.name!r} has work to do between forward and update",
            "use one device, or compile=True, which compiles the layers",
        )
    if strategy.device.type not in ("cpu", "cuda"):
        return f"it is made for CPUs and CUDA GPUs, and this is {strategy.device}", "use compile=True"
    return None


def _update_obstacle(
    module: TrainModule, precision: Precision, optimizers: Sequence[torch.optim.Optimizer]
) -> Obstacle | None:
    if not optimizers:
        return "configure_optimizers returned None, so there is no update", "leave it out"
    for method in ("backward", "optimizer_step", "optimizer_zero_grad"):
        if overrides(module, method, TrainModule):
            name = type(module).__name__
            return f"{name} has its own {method}, which is not called within a graph", f"remove it, {_OTHERWISE}"
    for method in ("autocast", "scale", "backward", "unscale", "update"):
        if overrides(precision, method, Precision):
            return f"precision {precision.name!r} has its own {method}", "use 'bf16-mixed', 'bf16-true' or '32-true'"
    return None


def _optimizer_obstacle(optimizer: torch.optim.Optimizer) -> Obstacle | None:
    name = type(optimizer).__name__
    if needs_closure(optimizer):
        return f"{name} evaluates the loss through a closure", "use another optimizer, or leave compile out"
    # Torch calls them around `step`, of which the graph has only the inside.
    hooks = [*optimizer._optimizer_step_pre_hooks.values(), *optimizer._optimizer_step_post_hooks.values()]
    if hooks:
        return f"{name} has step hooks, which are not called within a graph: {hooks}", "join on_after_optimizer_step"
    if not is_of_torch(optimizer) and (count := own_count(optimizer)):
        return f"each step of {name} changes its number {count!r}, a constant of a graph", "use compile=True"
    return None


def _plugin_obstacle(plugins: HookManager) -> Obstacle | None:
    for hook in WITHIN:
        for name, plugin in _joining(plugins, hook):
            if hook != "on_clip_gradients" or type(plugin) is not GradientClipping:
                return (
                    f"{name} listens on {hook}, in the middle of what becomes one graph",
                    "let it listen on on_after_optimizer_step or on_train_batch_end, where the gradients still are",
                )
    return None


def _joining(plugins: HookManager, hook: str) -> list[tuple[str, Any]]:
    by_name = dict(plugins.plugins)
    return [(name, by_name[name]) for name in plugins.order(hook)]
