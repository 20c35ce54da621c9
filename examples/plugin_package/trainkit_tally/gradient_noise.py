"""A callback that adds noise to gradients."""

from __future__ import annotations

import torch

from trainkit import Trainer


class GradientNoise:
    """Adds Gaussian noise to gradients, less and less of it, ahead of clipping.

    Its standard deviation is ``scale / (1 + step) ** decay``. The idea, with 0.55 for the variance, is of Neelakantan
    et al., "Adding Gradient Noise Improves Learning for Very Deep Networks", 2015.

    Args:
        scale: The standard deviation at the first update, in units of the gradient.
        decay: How fast it falls.

    Raises:
        ValueError: If one of them is below 0.
    """

    stage = "modify"  # it changes gradients: ahead of all who look at them

    def __init__(self, scale: float = 0.1, decay: float = 0.275) -> None:
        if scale < 0 or decay < 0:
            raise ValueError(f"scale={scale} and decay={decay} have to be at least 0")
        self.scale = scale
        self.decay = decay

    def on_before_optimizer_step(self, trainer: Trainer, optimizer: torch.optim.Optimizer) -> None:
        deviation = self.scale / (1 + trainer.global_step) ** self.decay
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    # Of torch's global generator, whose state is in checkpoints: a resumed run draws the same.
                    parameter.grad.add_(torch.randn_like(parameter.grad), alpha=deviation)
