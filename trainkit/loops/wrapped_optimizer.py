"""What ``self.optimizers()`` gives to a module: an optimizer whose steps the run sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from trainkit.module import TrainModule


class WrappedOptimizer:
    """Stands for an optimizer: the same attributes, and a ``step`` that fires hooks, unscales and counts.

    It passes for its optimizer in ``isinstance``, as users of Lightning expect of ``self.optimizers()``.

    Args:
        optimizer: The optimizer.
        module: Whose it is.
        step: ``(closure) -> Any``: makes an update. With a closure the optimizer evaluates the loss through it, and
            what the first evaluation gave is returned.
    """

    optimizer: torch.optim.Optimizer
    step: Callable[..., Any]
    _module: TrainModule

    def __init__(self, optimizer: torch.optim.Optimizer, module: TrainModule, step: Callable[..., Any]) -> None:
        # Past __setattr__, which writes to the optimizer. As an attribute `step` is called without a frame of our own.
        self.__dict__.update(optimizer=optimizer, step=step, _module=module)

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

    # State, groups and all else are the optimizer's: whoever reads or sets them means it.

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.optimizer, name, value)

    def __repr__(self) -> str:
        return f"WrappedOptimizer({self.optimizer!r})"
