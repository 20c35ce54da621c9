"""16-mixed: parameters in float32, matrix products in float16, losses scaled so that small gradients survive."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import torch
from torch import Tensor

from trainkit.errors import NotAttachedError, OptimizerError, StateError
from trainkit.module.joint_optimizer import parts_of
from trainkit.module.optimizers import parameters_of
from trainkit.precision.base import Precision
from trainkit.storage.schema import AtLeast, takes


class _State(TypedDict, total=False):
    """The state of a ``GradScaler``; empty in a checkpoint of another precision."""

    scale: float
    growth_factor: float
    backoff_factor: float
    growth_interval: Annotated[int, AtLeast(1, most=2**31 - 1)]
    _growth_tracker: Annotated[int, AtLeast(0, most=2**31 - 1)]


class MixedFloat16(Precision):
    """Forward under autocast, gradients through a ``GradScaler``, which skips an update whose gradients overflowed.

    Args:
        scaler: A scaler to use in place of ``torch.amp.GradScaler`` with its defaults.

    Source: Micikevicius et al. 2018, "Mixed Precision Training", arXiv:1710.03740, section 3.2.
    """

    name = "16-mixed"
    autocast_dtype = torch.float16

    def __init__(self, scaler: torch.amp.GradScaler | None = None) -> None:
        self._scaler = scaler

    @property
    def scaler(self) -> torch.amp.GradScaler:
        """The scaler. Made by `setup`, as it needs the device.

        Raises:
            NotAttachedError: Before `setup`.
        """
        if self._scaler is None:
            raise NotAttachedError("precision '16-mixed' makes its GradScaler in setup(device), which comes first.")
        return self._scaler

    def setup(self, device: torch.device) -> None:
        super().setup(device)
        self._device = device
        # A second call, for another fit or a validation, keeps the scale that was found so far.
        if self._scaler is None:
            self._scaler = torch.amp.GradScaler(device.type)

    def scale(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        for part in parts_of([optimizer]):
            self.scaler.unscale_(part)

    def update(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Any] | None = None) -> bool:
        if closure is not None:
            _refuse_if_it_needs_a_closure(optimizer)
            closure()  # ahead of the step, as `GradScaler.step` takes none: gradients have to be there when it looks
        # The scaler reads from the device whether gradients overflowed, and does not return it. A hook of the optimizer
        # tells whether its step ran, without a second read. A fused optimizer decides on the device, which cannot be
        # seen without waiting: its step always runs, and counts as made.
        made: list[bool] = []
        # Each of several optimizers skips for gradients of its own, as in a loop by hand.
        parts = parts_of([optimizer])
        for part in parts:
            # One that had none has nothing to look at, for which the scaler would raise.
            if len(parts) > 1 and all(parameter.grad is None for parameter in parameters_of(part)):
                continue
            hook = part.register_step_post_hook(lambda *_: made.append(True))
            try:
                self.scaler.step(part)
            finally:
                hook.remove()
        self.scaler.update()
        return bool(made)

    def state_dict(self) -> dict[str, Any]:
        return self.scaler.state_dict()

    @takes(_State)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        # Empty in a checkpoint of another precision; GradScaler would raise.
        if state:
            lacking = _State.__annotations__.keys() - state.keys()
            if lacking:
                raise StateError(f"there is no {', '.join(sorted(lacking))}")
            # Any other one skips all updates, or makes of the gradients what is none.
            if not 0 < state["scale"] < math.inf:
                raise StateError(f"scale is {state['scale']}, and must be above 0 and finite")
            if not 1 < state["growth_factor"] < math.inf or not 0 < state["backoff_factor"] < 1:
                raise StateError("growth_factor is not above 1, or backoff_factor not between 0 and 1")
            self.scaler.load_state_dict(state)
            # A group that was open when it was saved may be closed by the next update, with no loss to scale before it;
            # and GradScaler makes its scale with the first loss.
            self.scaler.scale(torch.zeros((), device=self._device))


def _refuse_if_it_needs_a_closure(optimizer: torch.optim.Optimizer) -> None:
    # Optimizers that can do without have ``closure=None``; LBFGS has no default.
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise OptimizerError(
            f"{type(optimizer).__name__} evaluates the loss through a closure, as often as it likes; precision "
            "'16-mixed' has to know after one evaluation whether to step at all. Use 'bf16-mixed' or '32-true'."
        )
