"""What ``self.optimizers()`` gives to a module: an optimizer whose steps the run sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from trainkit.module import TrainModule

StepFunction = Callable[[torch.optim.Optimizer, Callable[[], Any] | None], Any]


class OptimizerHandle:
    """Stands for an optimizer: the same attributes, and a ``step`` that fires hooks, unscales and counts.

    It passes for its optimizer in ``isinstance``, as users of Lightning expect of ``self.optimizers()``.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, module: TrainModule, step: StepFunction) -> None:
        self.__dict__.update(optimizer=optimizer, _module=module, _step=step)

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Make an update; with ``closure`` the optimizer evaluates the loss through it; the first one is returned."""
        if closure is None:
            return self._step(self.optimizer, None)
        losses: list[Any] = []

        def remembering() -> Any:
            losses.append(closure())
            return losses[-1]

        self._step(self.optimizer, remembering)
        return losses[0] if losses else None

    @contextmanager
    def toggle_model(self, sync_grad: bool = True) -> Iterator[None]:
        """Let only this optimizer's parameters require gradients; exchange them between ranks if ``sync_grad``."""
        self._module.toggle_optimizer(self)
        try:
            with self._module.trainer.strategy.gradient_sync(enabled=sync_grad):
                yield
        finally:
            self._module.untoggle_optimizer(self)

    @property  # type: ignore[misc]  # so that isinstance takes it for its optimizer
    def __class__(self) -> Any:
        return type(self.optimizer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.optimizer, name, value)

    def __repr__(self) -> str:
        return f"OptimizerHandle({self.optimizer!r})"
