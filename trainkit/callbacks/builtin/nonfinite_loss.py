"""Ending a fit whose loss became NaN or infinite, before the weights do."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from trainkit.errors import NonFiniteLossError
from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class StopOnNonFiniteLoss(Callback):
    """Raises `NonFiniteLossError` ahead of backward. ``Trainer(on_nonfinite_loss="stop")`` adds it.

    It waits for the device once for each batch.
    """

    stage: ClassVar[PluginStage] = "setup"

    def on_before_backward(self, trainer: Trainer, loss: Tensor) -> None:
        # One rank that stopped alone would leave the others waiting in backward.
        is_finite = bool(loss.isfinite().all())
        if trainer.strategy.any_rank(not is_finite):
            value = f"is {loss.item()}" if not is_finite else "of another rank is not finite"
            place = f"batch {trainer.progress.batch} of epoch {trainer.current_epoch}, at step {trainer.global_step}"
            raise NonFiniteLossError(
                f"the loss {value} in {place}. The weights are as they were before that batch.\n"
                "    to do        look at that batch and at the learning rate; gradient_clip_val bounds gradients; "
                "detect_anomaly=True names the operation that made a NaN"
            )
