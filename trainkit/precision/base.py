"""What a precision promises: which dtype things have, and how a backward and an update are done with it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor

from trainkit.module import TrainModule
from trainkit.types import Batch

NO_CONTEXT: AbstractContextManager[None] = nullcontext()


class Precision:
    """The base of all precisions; as it stands, the one that changes nothing.

    Attributes:
        name: What the user writes in ``Trainer(precision=...)``.
    """

    name: ClassVar[str]

    def setup(self, device: torch.device) -> None:
        """Learn the device, and raise `DeviceError` if it cannot compute in this precision."""

    def convert(self, module: TrainModule) -> None:
        """Change the dtype of the module's parameters and buffers in place, where this precision does so."""

    def convert_batch(self, batch: Batch) -> Batch:
        """Change the dtype of the floating-point tensors of a batch, where this precision does so."""
        return batch

    def autocast(self) -> AbstractContextManager[Any]:
        """Around every forward: training, evaluation and prediction."""
        return NO_CONTEXT

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute gradients of ``loss``; further arguments go to ``Tensor.backward``."""
        loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Undo what `backward` did to the size of the gradients. Once per update, before anybody looks at them."""

    def update(self, optimizer: torch.optim.Optimizer) -> bool:
        """Let ``optimizer`` make its step; return whether it did (a scaler skips one whose gradients overflowed)."""
        optimizer.step()
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, such as the scale; empty if nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
