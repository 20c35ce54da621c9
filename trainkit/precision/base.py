"""What a precision promises: which dtype things have, and how a backward and an update are done with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor

from trainkit.batch.nested import map_tensors
from trainkit.errors import DeviceError
from trainkit.module import TrainModule
from trainkit.precision.default_dtype import DefaultDtype
from trainkit.types import NO_CONTEXT, Batch


class Precision:
    """The base of all precisions; as it stands, the one that changes nothing.

    A precision that only chooses dtypes sets one of the class attributes and is done.

    Attributes:
        name: What the user writes in ``Trainer(precision=...)``.
        dtype: What parameters, batches and new tensors are converted to; None leaves them as they are.
        autocast_dtype: In what single operations compute, where torch deems it safe; None is as their inputs are.
    """

    name: ClassVar[str]
    dtype: ClassVar[torch.dtype | None] = None
    autocast_dtype: ClassVar[torch.dtype | None] = None
    _context: AbstractContextManager[Any] = NO_CONTEXT

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        # Users ask `if trainer.precision == "16-mixed"`, which must not be silently False.
        return self.name == other if isinstance(other, str) else self is other

    def __hash__(self) -> int:
        return hash(self.name)

    def setup(self, device: torch.device) -> None:
        """Learn the device, and raise `DeviceError` if it cannot compute in this precision. May be called twice."""
        if self.autocast_dtype is not None:
            if not torch.amp.is_autocast_available(device.type):
                raise DeviceError(
                    f"precision {self.name!r} needs autocast, which torch does not have on {device.type}."
                )
            self._context = torch.autocast(device.type, self.autocast_dtype)
        elif self.dtype is not None:
            if self.dtype is torch.float64 and device.type == "mps":
                raise DeviceError(
                    f"precision {self.name!r} needs float64, which {device} does not have. Use '32-true'."
                )
            self._context = DefaultDtype(self.dtype)

    def convert(self, module: TrainModule) -> None:
        """Change the dtype of the module's parameters and buffers in place, where this precision does so."""
        if self.dtype is not None:
            module.to(self.dtype)

    def convert_batch(self, batch: Batch) -> Batch:
        """Change the dtype of the floating-point tensors of a batch, where this precision does so."""
        dtype = self.dtype
        if dtype is None:
            return batch
        return map_tensors(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, batch)

    def autocast(self) -> AbstractContextManager[Any]:
        """Around every forward: training, evaluation and prediction. One object for all, so it cannot be nested."""
        return self._context

    def scale(self, loss: Tensor) -> Tensor:
        """Return what backward starts from in place of ``loss``."""
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute gradients of ``loss``; further arguments go to ``Tensor.backward``."""
        self.scale(loss).backward(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Undo what `scale` did to the size of the gradients. Once per update, before anybody looks at them."""

    def update(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Any] | None = None) -> bool:
        """Let ``optimizer`` make its step; return whether it did (a scaler skips one whose gradients overflowed).

        Args:
            optimizer: Whose step it is.
            closure: Computes loss and gradients, unscaled, and returns the loss; for an optimizer that asks for them.

        Raises:
            OptimizerError: If the optimizer needs a closure and this precision cannot give it one.
        """
        if closure is None:
            optimizer.step()
        else:
            optimizer.step(closure)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, such as the scale; empty if nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; of a run in another precision nothing is taken."""
