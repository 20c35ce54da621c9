"""Clipping gradients right before an optimizer step."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from trainkit.checks import clipping, takes_numpy
from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage
from trainkit.module import TrainModule
from trainkit.reflection import method_of


class GradientClipping(Callback):
    """Calls ``module.configure_gradient_clipping`` before every update. ``Trainer(gradient_clip_val=...)`` adds it.

    Args:
        gradient_clip_val: The largest norm or value; None leaves it to the module's ``configure_gradient_clipping``.
        gradient_clip_algorithm: ``norm`` (default) limits the norm of all gradients together, ``value`` each element.

    Raises:
        ConfigError: If ``gradient_clip_val`` is no number of at least 0.
        UnknownNameError: If there is no such algorithm.
    """

    stage: ClassVar[PluginStage] = "modify"

    @takes_numpy
    def __init__(
        self,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: Literal["norm", "value"] | str | None = None,
    ) -> None:
        clipping(gradient_clip_val, gradient_clip_algorithm)
        self.gradient_clip_val = gradient_clip_val
        self.gradient_clip_algorithm = gradient_clip_algorithm

    # A hook of its own, after on_before_optimizer_step: there gradients are unscaled, and plugins see them unclipped.
    def on_clip_gradients(self, module: TrainModule, optimizer: torch.optim.Optimizer) -> None:
        # Through the module, which may override it to clip in its own way.
        method_of(module, "configure_gradient_clipping", TrainModule)(
            optimizer,
            gradient_clip_val=self.gradient_clip_val,
            gradient_clip_algorithm=self.gradient_clip_algorithm,
        )
