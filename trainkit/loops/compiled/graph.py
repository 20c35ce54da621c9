"""What is traced: one optimisation step as a function without side effects that Python would have to see."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainkit.errors import CompileError
from trainkit.loops.accumulation import TINY, Place
from trainkit.loops.compiled.optimizer import Traced
from trainkit.loops.compiled.trace_guard import TraceGuard
from trainkit.loops.optimize import detached, read_loss
from trainkit.loops.run import FitRun
from trainkit.module import TrainModule
from trainkit.types import Batch

Clip = Callable[[TrainModule, torch.optim.Optimizer], None]
"""Clips the gradients of an optimizer, as the module's ``configure_gradient_clipping`` does."""


Backend = Callable[..., Callable[..., Any]]
"""A backend of ``torch.compile``."""

NOT_COMPILED = (
    'compile="step" was asked for, and torch has called the step without compiling it.\n'
    "    why          TORCHDYNAMO_DISABLE, TORCHDYNAMO_SUPPRESS_ERRORS or torch.compiler.set_stance() is in force\n"
    "    to do        unset it, or leave compile out"
)


class Result(NamedTuple):
    """What a step comes to.

    Attributes:
        outputs: What ``training_step`` returned, as plugins get it; None if it skipped the batch.
        weight: The weight of the group so far, if the losses are sums with weights.
    """

    outputs: dict[str, Any] | None
    weight: Tensor | None


def compile_graph(
    run: FitRun, optimizer: Traced, clip: Clip, guard: TraceGuard, backend: Backend | None = None
) -> Callable[..., Result]:
    """Return ``(batch, batch_idx, place, weight, momenta) -> Result``, compiled when it is called.

    Gradients are left in ``.grad``, where plugins, checkpoints and the eager loop find them; only parameters that have
    a ``.grad`` get one.

    Args:
        run: The run.
        optimizer: Makes the update.
        clip: Clips.
        guard: Says when Dynamo may trace.
        backend: What makes code of the graph; by default inductor.
    """
    device, dtype = run.strategy.device.type, run.precision.autocast_dtype
    module, training_step, trained, check = run.module, run.training_step, optimizer.parameters, guard.check
    weighs = module.weighs_losses

    def whole_step(
        batch: Batch, batch_idx: int, place: Place, weight_before: Tensor | None, momenta: tuple[int, ...]
    ) -> Result:
        if not torch.compiler.is_compiling():
            raise CompileError(NOT_COMPILED)
        check()
        # The context of the precision is an object that Dynamo would not see through.
        with torch.autocast(device, dtype) if dtype is not None else nullcontext():
            output = training_step(batch, batch_idx)
        if output is None:
            return Result(None, None)
        loss, weight = read_loss(output, weighs=weighs)
        share = loss / place.divisor if weight is None and place.divisor > 1 else loss
        # `.grad` says who takes part; the step before the first compiled one has seen to it.
        parameters = [parameter for parameter in trained if parameter.grad is not None]
        gradients = torch.autograd.grad(share, parameters, allow_unused=True)
        with torch.no_grad():
            gathered = [parameter.grad for parameter in parameters if parameter.grad is not None]
            for before, gradient in zip(gathered, gradients, strict=True):
                if gradient is not None:
                    before.copy_(gradient) if place.opens else before.add_(gradient)
            total = None
            if weight is not None:
                total = torch.as_tensor(weight, dtype=torch.float32, device=device)
                total = total if weight_before is None else total + weight_before
            if place.closes:
                rescale: Any = place.rescale if total is None else 1 / total.clamp_min(TINY)
                if rescale is not None:
                    torch._foreach_mul_(gathered, rescale)
                clip(module, optimizer.traced)
                optimizer.update(momenta)
        return Result(detached(output), total)

    # Dynamo keeps graphs with the code they are of. A copy has its own, which end with this fit and count only here.
    whole_step.__code__ = whole_step.__code__.replace()
    # One shape, one graph: a graph for several shapes would depend on which came first, and a resumed run differ.
    how: dict[str, Any] = {"options": options(device)} if backend is None else {"backend": backend}
    return torch.compile(whole_step, fullgraph=True, dynamic=False, **how)


def options(device: str) -> dict[str, Any]:
    """Return what inductor is told."""
    # Its own random numbers are others than eager ones, and do not move torch's generators on.
    chosen: dict[str, Any] = {"fallback_random": True}
    if device == "cuda":
        # Recorded at the second call of a graph, replayed from then on.
        chosen["triton.cudagraphs"] = True
    return chosen
