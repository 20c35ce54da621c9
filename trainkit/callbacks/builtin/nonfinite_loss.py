"""Ending a fit whose loss became NaN or infinite, before the weights do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from trainkit.errors import NonFiniteLossError
from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage
from trainkit.loops.drifting_ranks import exchanges_at_steps
from trainkit.module.optimizers import parameters_of

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class StopOnNonFiniteLoss(Callback):
    """Raises `NonFiniteLossError` ahead of backward. ``Trainer(on_nonfinite_loss="stop")`` adds it.

    It waits for the device once for each batch. Ranks that average gradients tell each other by these: the one with
    the loss makes its own NaN, so that all have NaN in the average, ask each other, and end ahead of the update. As
    long as gradients are finite nothing else is exchanged.
    """

    stage: ClassVar[PluginStage] = "setup"

    def __init__(self) -> None:
        self._found = ""

    def on_train_start(self) -> None:
        self._found = ""

    def on_before_backward(self, trainer: Trainer, loss: Tensor) -> None:
        is_finite = bool(loss.isfinite().all())
        found = "" if is_finite else f"is {loss.item()} in {_place(trainer)}"
        if not exchanges_at_steps(trainer.strategy):
            # One rank that stopped alone would leave the others waiting in backward.
            if trainer.strategy.any_rank(bool(found)):
                _stop(trainer, found)
        elif found:
            self._found = self._found or found
            loss.register_hook(_nan)  # type: ignore[no-untyped-call]  # torch's

    def on_before_optimizer_step(self, trainer: Trainer, optimizer: torch.optim.Optimizer) -> None:
        strategy = trainer.strategy
        if exchanges_at_steps(strategy) and not _are_finite(optimizer):
            # Gradients are the same on all ranks, so all come here.
            found, self._found = self._found, ""
            if strategy.any_rank(bool(found)):
                _stop(trainer, found)


def _nan(gradient: Tensor) -> Tensor:
    return gradient * math.nan


def _are_finite(optimizer: torch.optim.Optimizer) -> bool:
    gradients = [each.grad for each in parameters_of(optimizer) if each.grad is not None]
    dense = [each.coalesce().values() if each.is_sparse else each for each in gradients]
    return not dense or bool(torch.nn.utils.get_total_norm(dense).isfinite())


def _place(trainer: Trainer) -> str:
    return f"batch {trainer.progress.batch} of epoch {trainer.current_epoch}, at step {trainer.global_step}"


def _stop(trainer: Trainer, found: str) -> None:
    what = found or f"of another rank is not finite in {_place(trainer)}"
    raise NonFiniteLossError(
        f"the loss {what}. The weights are as they were before that batch.\n"
        "    to do        look at that batch and at the learning rate; gradient_clip_val bounds gradients; "
        "detect_anomaly=True names the operation that made a NaN"
    )
