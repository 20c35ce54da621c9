"""`Precision`, the contract of all precisions: dtypes, and how backward and update are done with them."""

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
from trainkit.reflection import overrides
from trainkit.types import NO_CONTEXT, Batch


class Precision:
    """The base of all precisions. Its defaults change nothing.

    A precision that only chooses dtypes sets one of the class attributes, and overrides no method.

    Attributes:
        name: What the user writes in ``Trainer(precision=...)``.
        dtype: The dtype of parameters, batches and new tensors; None leaves them as they are.
        autocast_dtype: The dtype in which ``torch.autocast`` runs the operations that it lists as safe; None is without
            autocast.
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
        """Prepare for ``device``. May be called more than once.

        Raises:
            DeviceError: If the device cannot compute in this precision.
        """
        if self.autocast_dtype is not None:
            if not torch.amp.is_autocast_available(device.type):
                raise DeviceError(
                    f"precision {self.name!r} needs autocast, which torch does not have on {device.type}."
                )
            # Made once and entered for every batch: making one costs some microseconds.
            self._context = torch.autocast(device.type, self.autocast_dtype)
        elif self.dtype is not None:
            if self.dtype is torch.float64 and device.type == "mps":
                raise DeviceError(
                    f"precision {self.name!r} needs float64, which {device} does not have. Use '32-true'."
                )
            # Tensors that a step makes (masks, noise, losses) shall have the dtype of what they are combined with.
            self._context = DefaultDtype(self.dtype)

    def convert(self, module: TrainModule) -> None:
        """Convert the floating-point parameters and buffers of ``module`` in place, if this precision has a dtype."""
        # Not `Module.to(dtype)`, which drops the imaginary part of complex tensors. And it reaches into torchmetrics
        # objects, which these two leave alone: a sum in halves stops growing, in bfloat16 a count at 256.
        if self.dtype is torch.float16:
            module.half()
        elif self.dtype is torch.bfloat16:
            module.bfloat16()
        elif self.dtype is not None:
            module._apply(self._converted)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def convert_batch(self, batch: Batch) -> Batch:
        """Return ``batch`` with its floating-point tensors converted, if this precision has a dtype."""
        return batch if self.dtype is None else map_tensors(self._converted, batch)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context for every forward: training, evaluation, prediction. It is one object; do not nest it."""
        return self._context

    @property
    def has_context(self) -> bool:
        """Whether a forward needs the context of `autocast`."""
        return not (self.dtype is self.autocast_dtype is None) or overrides(self, "autocast", Precision)

    def scale(self, loss: Tensor) -> Tensor:
        """Return ``loss`` multiplied as `backward` needs it. `unscale` undoes it for the gradients."""
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute gradients of ``loss``; further arguments go to ``Tensor.backward``."""
        self.scale(loss).backward(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the factor of `scale`. Called once per update, before plugins see or clip them."""

    def update(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Any] | None = None) -> bool:
        """Call ``optimizer.step``.

        Args:
            optimizer: The optimizer.
            closure: Computes the loss and its unscaled gradients, and returns the loss; for an optimizer that calls it.

        Returns:
            Whether the step was made. A gradient scaler skips one whose gradients overflowed.

        Raises:
            OptimizerError: If the optimizer needs a closure and this precision cannot give it one.
        """
        if closure is None:
            optimizer.step()
        else:
            optimizer.step(closure)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return the state from which a resumed run continues, such as the scale; empty if there is none."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned. One of another precision is ignored."""

    def _converted(self, tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            return tensor.to(self.dtype)
        # Complex numbers of two halves are not converted to: torch has next to no operations on them.
        return tensor.to(torch.complex128) if tensor.is_complex() and self.dtype is torch.float64 else tensor
