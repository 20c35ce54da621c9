"""Holding a compiled step against the eager one, on a copy: compilers have been silently wrong, and will be again."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Muon

from trainkit.errors import CompileError
from trainkit.hooks.bound import BoundHooks
from trainkit.loops.accumulation import Place
from trainkit.loops.compiled.graph import Clip
from trainkit.loops.compiled.optimizer import copied
from trainkit.loops.optimize import forward_and_backward, prepare_group
from trainkit.loops.run import FitRun
from trainkit.loops.stop import StopSignal
from trainkit.module import TrainModule
from trainkit.module.attached import attach
from trainkit.module.joint_optimizer import parts_of
from trainkit.module.optimizers import parameters_of
from trainkit.seed import isolate_rng
from trainkit.types import Batch, StepOutput

BindStep = Callable[[TrainModule], Callable[..., Any]]
"""Gives what is called as ``(batch, batch_idx)`` for the ``training_step`` of a module."""

COARSE = 5e-2
"""The relative difference that is rounding where numbers of 16 bits are computed with."""

NEGLIGIBLE = 1e-2
"""The share of all gradients below which one of them may be rounding noise, as before a BatchNorm."""


class ReferenceStep:
    """The eager step, made on a copy of a module and its optimizer as they are before a step.

    Args:
        run: What is copied. Nothing of it changes, no random numbers are drawn, nothing is logged.
        bind_step: How the step of the copy is called.
        clip: How gradients are clipped.

    Raises:
        CompileError: If the module cannot be copied.
    """

    def __init__(self, run: FitRun, bind_step: BindStep, clip: Clip) -> None:
        self._original = run
        module, optimizer = _copy(run)
        self._module, self._optimizer = module, optimizer
        # Hooks of its own, in which nobody listens but the clipping: plugins must not see this step.
        self._hooks = BoundHooks()
        self._hooks.rebind("on_clip_gradients", lambda optimizer: clip(module, optimizer))
        # Whatever the step changes is copied; the rest (precision, strategy, metrics) is only read.
        self._run = dataclasses.replace(
            run,
            module=module,
            optimizers=[optimizer],
            training_step=bind_step(module),
            progress=copy.copy(run.progress),
            stop_signal=StopSignal(),
            accumulation=copy.deepcopy(run.accumulation),
        )
        self._outputs: StepOutput = {}

    def step(self, batch: Batch, batch_idx: int, place: Place) -> None:
        """Make the step, up to the update."""
        # The compiled step draws the same numbers afterwards, so that Dropout masks agree.
        with isolate_rng():
            self._outputs = forward_and_backward(self._run, self._hooks, batch, batch_idx)
        if place.closes and self._outputs:
            prepare_group(self._run, self._hooks, synced=True)

    @property
    def skipped(self) -> bool:
        """Whether ``training_step`` returned None."""
        return not self._outputs

    def trained(self) -> list[Tensor]:
        """Return the parameters of the original whose copies have gradients by now."""
        pairs = zip(parameters_of(self._optimizer), parameters_of(self._original.optimizer), strict=True)
        return [original for mine, original in pairs if mine.grad is not None]

    def compare(self, outputs: StepOutput, place: Place) -> None:
        """Compare loss, gradients, buffers and weights with what the compiled step has made of the original.

        The weights are those that the eager optimizer makes with the compiled gradients: an update may turn rounding
        noise into a whole step.

        Raises:
            CompileError: If something differs by more than rounding.
        """
        if self.skipped is not (not outputs):
            eager, compiled = ("skipped", "made") if self.skipped else ("made", "skipped")
            raise _mismatch(self._original.module, "whether the step is made", eager, compiled)
        if self.skipped:
            return
        self._check("the loss", self._outputs["loss"], outputs["loss"], floor=NEGLIGIBLE)
        if not torch.isfinite(outputs["loss"]).all():
            # Infinities come from differences of rounding, and everything behind them is NaN on both sides.
            return
        self._compare_gradients()
        buffers = dict(self._original.module.named_buffers())
        for name, buffer in self._module.named_buffers():
            self._check(f"the buffer {name}", buffer, buffers[name])
        if place.closes:
            self._compare_update()

    def _pairs(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Name, eager and compiled, of each parameter that has a gradient."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in self._original.module.named_parameters()}
        mine, originals = parameters_of(self._optimizer), parameters_of(self._original.optimizer)
        for eager, compiled in zip(mine, originals, strict=True):
            if eager.grad is not None:
                yield names.get(compiled, "a parameter outside of the module"), eager, compiled

    def _compare_gradients(self) -> None:
        pairs = [(name, eager.grad, compiled.grad) for name, eager, compiled in self._pairs()]
        # Relative to all gradients together: the bias ahead of a BatchNorm has none but rounding noise.
        whole = _norm(torch.stack([_norm(eager) for _, eager, _ in pairs if eager is not None]))
        for name, eager, compiled in pairs:
            assert eager is not None and compiled is not None, "the graph writes to the gradients that the copy has"
            self._check(f"the gradient of {name}", eager, compiled, floor=NEGLIGIBLE * float(whole))

    def _compare_update(self) -> None:
        before = [eager.detach().clone() for _, eager, _ in self._pairs()]
        rounded = [each for each in parts_of([self._original.optimizer]) if isinstance(each, Muon)]
        in_bfloat16 = {parameter for each in rounded for parameter in parameters_of(each)}
        # From the same gradients: Adam divides noise by its own size, and makes of it a step in either direction.
        for _, eager, compiled in self._pairs():
            assert eager.grad is not None and compiled.grad is not None
            eager.grad.copy_(compiled.grad)
        self._optimizer.step()
        for (name, eager, compiled), old in zip(self._pairs(), before, strict=True):
            # The weights before and after are rounded to their own size, which may be much larger than the update.
            rounding = 8 * torch.finfo(eager.dtype).eps * float(_norm(eager))
            coarse = COARSE if compiled in in_bfloat16 else 0.0
            self._check(f"the update of {name}", eager - old, compiled - old, slack=rounding, share=coarse)

    def _check(
        self, what: str, eager: Tensor, compiled: Tensor, *, floor: float = 0.0, slack: float = 0.0, share: float = 0.0
    ) -> None:
        """Raise unless two tensors agree but for rounding, which is a ``share`` of the norm, or of ``floor``."""
        eager, compiled = eager.detach(), compiled.detach()
        if not torch.isfinite(eager).all():
            return
        # These reads wait for the device; they are made in the first steps after a compilation alone.
        difference = float(_norm(eager.double() - compiled.double()))
        allowed = max(_tolerance(eager, self._run), share) * max(float(_norm(eager)), floor) + slack
        if not difference <= allowed:
            raise _mismatch(
                self._original.module,
                what,
                f"norm {float(_norm(eager)):.6g}",
                f"norm {float(_norm(compiled)):.6g}, off by {difference:.3g} where {allowed:.3g} would be rounding",
            )


def _copy(run: FitRun) -> tuple[TrainModule, torch.optim.Optimizer]:
    # Together, so that the copied optimizer holds the copied parameters.
    try:
        memo: dict[int, Any] = {}
        module, optimizer = copy.deepcopy(run.module, memo), copied(run.optimizer, memo)
    except Exception as error:
        raise CompileError(
            f'compile="step" compares its first steps with eager ones on a copy of {type(run.module).__name__}, which '
            "cannot be copied.\n"
            f"    why          {type(error).__name__}: {error}\n"
            "    to do        keep what cannot be copied out of the module, such as losses that were not detached,\n"
            "                 open files and locks"
        ) from error
    attach(module, run.module.trainer, _NoMetrics())
    for mine, original in zip(parameters_of(optimizer), parameters_of(run.optimizer), strict=True):
        mine.grad = None if original.grad is None else original.grad.clone()
    return module, optimizer


class _NoMetrics:
    """Takes what the copy logs, and keeps nothing."""

    def log(self, *arguments: Any) -> None:
        """Do nothing."""


def _norm(tensor: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor.detach().double())
    return norm


def _tolerance(tensor: Tensor, run: FitRun) -> float:
    """How far two ways to compute the same may be apart, relative to its size."""
    dtypes: Iterable[torch.dtype | None] = (tensor.dtype, run.precision.autocast_dtype)
    if any(dtype in (torch.bfloat16, torch.float16) for dtype in dtypes):
        return COARSE
    if tensor.device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32:
        return 1e-2
    return 1e-8 if tensor.dtype is torch.float64 else 2e-3


def _mismatch(module: TrainModule, what: str, eager: str, compiled: str) -> CompileError:
    return CompileError(
        f'compile="step" computes something else than the eager step of {type(module).__name__}: {what} differs.\n'
        f"    eager        {eager}\n"
        f"    compiled     {compiled}\n"
        '    to do        leave compile="step" out. Either training_step draws or reads something that is different\n'
        "                 at each call, or torch compiles it wrongly, and would like to know"
    )
