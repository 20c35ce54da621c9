"""Clipping: gradients are bounded right before an update."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from trainkit.errors import ConfigError, UnknownNameError
from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage

if TYPE_CHECKING:
    from trainkit.module import TrainModule

ALGORITHMS = ("norm", "value")


class GradientClipping(Callback):
    """Calls ``module.configure_gradient_clipping`` before every update; what ``Trainer(gradient_clip_val=...)`` adds.

    Args:
        gradient_clip_val: The bound; None leaves it to the module's own ``configure_gradient_clipping``.
        gradient_clip_algorithm: ``norm`` (default) bounds the norm of all gradients together, ``value`` each value.

    Raises:
        ConfigError: If the bound is no number of at least 0.
        UnknownNameError: If there is no such algorithm.
    """

    stage: ClassVar[PluginStage] = "modify"

    def __init__(
        self,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: Literal["norm", "value"] | str | None = None,
    ) -> None:
        if gradient_clip_val is not None and not _is_bound(gradient_clip_val):
            raise ConfigError(f"gradient_clip_val={gradient_clip_val!r} must be a number of at least 0, or None.")
        if gradient_clip_algorithm is not None and gradient_clip_algorithm not in ALGORITHMS:
            raise UnknownNameError("gradient_clip_algorithm", str(gradient_clip_algorithm), ALGORITHMS)
        self.gradient_clip_val = gradient_clip_val
        self.gradient_clip_algorithm = gradient_clip_algorithm

    def on_clip_gradients(self, module: TrainModule, optimizer: torch.optim.Optimizer) -> None:
        module.configure_gradient_clipping(
            optimizer,
            gradient_clip_val=self.gradient_clip_val,
            gradient_clip_algorithm=self.gradient_clip_algorithm,
        )


def _is_bound(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
