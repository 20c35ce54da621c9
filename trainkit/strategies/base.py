"""What a strategy promises: where tensors live, how a step runs there, and how ranks agree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from trainkit.module import TrainModule
from trainkit.types import Batch

ReduceOp = Literal["sum", "mean", "min", "max"]
NO_CONTEXT: AbstractContextManager[None] = nullcontext()


class Strategy(ABC):
    """Runs one module on one or more devices.

    The methods stand in the order in which a run calls them. A strategy moves tensors and agrees between ranks; it knows
    nothing of epochs, logging or files. Everything that has a default here is right for one process on one device.

    Attributes:
        name: What the user writes in ``Trainer(strategy=...)``.
        device: Where this process computes.
        rank: This process among all, from 0.
        local_rank: This process among those of its machine, from 0.
        world_size: How many processes there are.
        num_nodes: How many machines there are.
    """

    name: ClassVar[str]
    device: torch.device
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    num_nodes: int = 1

    def setup(self) -> None:
        """Take hold of the device and, with several processes, of the process group. May be called twice."""

    @abstractmethod
    def wrap(self, module: TrainModule) -> None:
        """Move ``module`` to the device and keep what is needed to run its steps. Optimizers are made after it."""

    @abstractmethod
    def training_step(self, module: TrainModule) -> Callable[..., Any]:
        """Return what the loop calls as ``training_step(batch, batch_idx)``. Chosen once, when a fit starts."""

    def evaluation_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Return what the loop calls in place of ``module.validation_step`` and its like."""
        return step

    def gradient_sync(self, *, enabled: bool) -> AbstractContextManager[None]:
        """Around forward and backward of one batch. Ranks need not exchange gradients when ``enabled`` is False."""
        return NO_CONTEXT

    def sync_gradients(self, module: nn.Module) -> None:
        """Average gradients that were gathered with ``gradient_sync(enabled=False)`` and are to be used after all."""

    @property
    def is_distributed(self) -> bool:
        """Whether several processes train together."""
        return self.world_size > 1

    def all_reduce(self, tensor: Tensor, op: ReduceOp = "sum") -> Tensor:
        """Return ``tensor`` reduced over all ranks; same shape, equal on every rank. Does not change ``tensor``."""
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all ranks. Shape (world_size, *tensor.shape); with one process, ``tensor`` itself."""
        return tensor

    def all_gather_object(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in the order of the ranks."""
        return [value]

    def broadcast_object(self, value: Any, source: int = 0) -> Any:
        """Return the value that rank ``source`` passed, on every rank."""
        return value

    def any_rank(self, flag: bool) -> bool:
        """Return whether ``flag`` is true on any rank. All ranks must ask."""
        return flag

    def barrier(self) -> None:
        """Wait until every rank has come here."""

    def module_state_dict(self, module: TrainModule) -> dict[str, Any]:
        """Return the module's state with the keys of the bare module."""
        return module.state_dict()

    def teardown(self) -> None:
        """Let go of what `setup` took. Called also after an exception."""
