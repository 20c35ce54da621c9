"""`Strategy`, the contract of all strategies: where tensors live, how a step runs there, and how ranks agree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from trainkit.errors import ConfigError, RankError, TrainkitError
from trainkit.module import TrainModule
from trainkit.strategies.ranks.rank_group import RankGroup, end_default_group
from trainkit.types import NO_CONTEXT, ReduceOp

T = TypeVar("T")

SMALL_BYTES = 512
"""Tensors on the CPU up to this size are reduced by each rank for itself, from what it was sent of the others."""

# The mean is a sum that is divided afterwards: gloo has no average.
_OPERATIONS = {"sum": dist.ReduceOp.SUM, "mean": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX}

_REDUCTIONS: dict[ReduceOp, Callable[[Tensor], Tensor]] = {
    "sum": lambda parts: parts.sum(0, dtype=parts.dtype),
    "mean": lambda parts: parts.sum(0, dtype=parts.dtype),
    "min": lambda parts: parts.amin(0),
    "max": lambda parts: parts.amax(0),
}

_LOST = ("onnection closed by peer", "onnection reset by peer", "roken pipe", "NCCL error", "gloo/transport")
"""What is in the messages of torch's backends where a rank is lost."""


class Strategy(ABC):
    """Runs one module on one or more devices.

    The methods stand in the order in which a run calls them. A strategy moves tensors and agrees between ranks; it
    knows nothing of epochs, logging or files. Only `wrap` and `training_step` have to be written: the defaults are
    right for one device per process, with ranks that talk through the default group of ``torch.distributed``. A
    strategy can be made without arguments; the Trainer then assigns it the devices that the user chose.

    Attributes:
        name: What the user writes in ``Trainer(strategy=...)``.
        uses_all_devices: Whether ``devices="auto"`` means all devices of the machine, rather than one.
        drives_all_devices: Whether one process computes on all its devices, as ``dp`` does. Otherwise each device has a
            process of its own, and the Trainer starts them if nobody has.
        devices: The devices of this machine that the run uses; empty until `assign`.
        device: The device on which this process computes.
        rank: The number of this process among all, from 0.
        local_rank: The number of this process among those of its machine, from 0.
        world_size: How many processes there are.
        num_nodes: How many machines there are.
        shards: Whether each rank may have a part of the module, and so reads its own part of a sharded checkpoint.
        holds_back_gradients: Whether manual optimization is to exchange nothing after a backward: within
            ``gradient_sync(enabled=False)``.
        timeout_s: How long a rank waits for the others before it raises.
        unsaved: What a run would need to continue exactly and is in no checkpoint; empty if there is nothing.
        compiles: How much of training may be compiled: nothing, the layers of the module, or the whole step. For the
            whole step the strategy must have nothing to do within one.
    """

    name: ClassVar[str]
    uses_all_devices: ClassVar[bool] = False
    drives_all_devices: ClassVar[bool] = False
    compiles: ClassVar[Literal["nothing", "layers", "step"]] = "layers"
    shards: ClassVar[bool] = False
    devices: tuple[torch.device, ...] = ()
    device: torch.device
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    num_nodes: int = 1
    holds_back_gradients: bool = False
    unsaved: str = ""
    timeout_s: float = 1800.0

    def assign(self, devices: Sequence[torch.device]) -> None:
        """Take the devices of this machine to use, and find out this process's rank. Called once, before all others."""
        if len(devices) != 1:
            raise ConfigError(
                f"strategy {self.name!r} runs on one device per process, and {len(devices)} were asked for: "
                f"{', '.join(map(str, devices))}.\n"
                "    for one device   devices=1\n"
                f"    for all of them  strategy='ddp'"
            )
        self.devices = tuple(devices)
        self.device = devices[0]

    def setup(self) -> None:
        """Make the device current and, with several processes, join the process group. May be called more than once."""
        if self.device.type == "cuda":
            # Tensors that the user or a library makes on "cuda", without an index, shall be on this one.
            torch.cuda.set_device(self.device)

    def compute_in(self, dtype: torch.dtype | None) -> None:
        """Take note of the dtype of autocast, None where there is none; called ahead of `wrap`."""

    def has_placed(self, module: TrainModule, dtype: torch.dtype | None) -> bool:
        """Return whether an earlier call has left ``module`` such as `wrap` makes it, so that it cannot be changed.

        Raises:
            ConfigError: If it would have to be, into another ``dtype``.
        """
        return False

    @abstractmethod
    def wrap(self, module: TrainModule) -> None:
        """Move ``module`` to the device and make it equal on all ranks. Optimizers are made afterwards."""

    @abstractmethod
    def training_step(self, module: TrainModule) -> Callable[..., Any]:
        """Return the function to call in place of ``module.training_step``. Asked once, when a fit starts."""

    def training_step_alone(self, module: TrainModule) -> Callable[..., Any]:
        """Like `training_step`, but no rank waits for another in it. So all can repeat a step that has failed on one.

        The gradients are exchanged afterwards, by `sync_gradients`.

        Raises:
            ConfigError: If ranks depend on each other in the middle of a step.
        """
        if self.is_distributed:
            raise ConfigError(
                f"accumulate_grad_batches='auto' cannot be used with strategy {self.name!r} on {self.world_size} "
                "ranks: they meet in the middle of a step, where\none that has run out of memory cannot begin anew. "
                "Give a number of batches, or use strategy='ddp'."
            )
        return self.training_step(module)

    def evaluation_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function that the loop calls in place of ``step``, a step of validation, test or prediction."""
        return step

    def in_turns(self, batches: Iterator[T]) -> Iterator[T]:
        """Return the ``batches`` of an evaluation, of which ranks may have different numbers."""
        return batches

    def describe(self, module: TrainModule) -> Sequence[str]:
        """Return how ``module`` is dealt out to the ranks, in words; nothing where each has all of it."""
        return ()

    def gradient_sync(self, *, enabled: bool) -> AbstractContextManager[None]:
        """Return the context for forward and backward of one batch.

        Args:
            enabled: Whether ranks have to exchange the gradients of this batch. Not where further batches of the
                accumulation group follow: one exchange at the end of the group is enough.
        """
        return NO_CONTEXT

    def skips_step(self, skips: bool) -> bool:
        """Return ``skips``, after all ranks have said that they skip this batch, if this one does.

        Args:
            skips: Whether this rank does, because its ``training_step`` returned None.

        Raises:
            RankError: If only some ranks skip it; the others would wait for their gradients forever.
        """
        # Nothing is exchanged for a batch that is not skipped: one that is waits for ranks that wait for its gradients.
        if skips and self.is_distributed:
            self.ranks.gather(None, why="its training_step returned None, which all have to do or none")
        return skips

    def sync_gradients(self, module: nn.Module) -> None:
        """Average the gradients of ``module`` over all ranks, where backward has not done it."""

    def parameters_changed(self) -> None:
        """Note that within a step parameters have changed, or whether they are trained."""

    def sync_buffers(self, module: nn.Module) -> None:
        """Give all ranks the buffers of rank 0, ahead of an evaluation: what is evaluated is what rank 0 saves."""

    def resume_group(self) -> None:
        """Go on in the middle of an accumulation group, from a checkpoint; called when the module is wrapped."""

    @property
    def data_rank(self) -> int:
        """The number of this process's data among all that are different, from 0."""
        return self.rank

    @property
    def data_world_size(self) -> int:
        """How many processes have different data; the others share the computation of a batch with one of them."""
        return self.world_size

    def one_of_each_data(self, values: Sequence[T]) -> list[T]:
        """Return of the values of all ranks those of one rank for each of the different data."""
        return list(values)

    @property
    def is_distributed(self) -> bool:
        """Whether several processes train together."""
        return self.world_size > 1

    @property
    def ranks(self) -> RankGroup:
        """All ranks together. At first every rank has to ask for it, since they find each other then."""
        if not dist.is_initialized():
            self.setup()  # outside of a call of the Trainer
        return RankGroup.of_default(timedelta(seconds=self.timeout_s))

    def waits_in_backward(self) -> bool:
        """Whether a backward that is running now waits for other ranks."""
        return False

    def all_reduce(self, tensor: Tensor, op: ReduceOp = "sum") -> Tensor:
        """Return ``tensor`` reduced over all ranks; same shape, equal on every rank. Does not change ``tensor``."""
        if not self.is_distributed:
            return tensor
        # A copy, as torch reduces in place; contiguous, as its backends demand.
        reduced = tensor.detach().clone(memory_format=torch.contiguous_format)
        if reduced.device.type == "cpu" and reduced.nbytes <= SMALL_BYTES:
            reduced = _REDUCTIONS[op](torch.stack(self.ranks.gather(reduced)))
        else:
            dist.all_reduce(reduced, _OPERATIONS[op])
        return reduced / self.world_size if op == "mean" else reduced

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all ranks, stacked: ``(world_size, *tensor.shape)``. With one process, ``tensor``."""
        if not self.is_distributed:
            return tensor
        own = tensor.detach().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.world_size)]
        dist.all_gather(parts, own)
        return torch.stack(parts)

    def all_gather_object(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in the order of the ranks. They are sent by pickle."""
        return self.ranks.gather(value) if self.is_distributed else [value]

    def broadcast_object(self, value: Any, source: int = 0) -> Any:
        """Return the value of rank ``source``, on every rank. It is sent by pickle."""
        if not self.is_distributed:
            return value
        # From all, so that each rank sees whether the others are about to do the same.
        return self.ranks.gather(value if self.rank == source else None)[source]

    def any_rank(self, flag: bool | Tensor) -> bool:
        """Return whether ``flag`` is true on any rank. Every rank has to call this. Waits for a flag on the device."""
        return any(self.all_gather_object(bool(flag)))

    def total(self, number: int) -> int:
        """Return the sum of the numbers of all ranks that have different data. Every rank has to call this."""
        return sum(self.one_of_each_data(self.all_gather_object(number))) if self.is_distributed else number

    def agreed(self, decide: Callable[[], T]) -> T:
        """Call ``decide`` on rank 0, and return its result on every rank. Every rank has to call this.

        For what ranks may see differently, such as files and clocks. A `TrainkitError` is raised on every rank.
        """
        decided: Any = None
        if self.is_global_zero:
            try:
                decided = decide()
            # Sent in place of the result: raised here at once, it would leave the other ranks in the broadcast.
            except TrainkitError as error:
                decided = error
        answer: T | TrainkitError = self.broadcast_object(decided)
        if isinstance(answer, TrainkitError):
            raise answer
        return answer

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        if self.is_distributed:
            self.ranks.gather(None)

    def module_state_dict(self, module: TrainModule) -> dict[str, Any]:
        """Return the ``state_dict`` of the bare module, without the prefixes of a wrapper."""
        return module.state_dict()

    def stored(self, state: Any) -> Any:
        """Return a state, such as that of an optimizer, as a checkpoint is to hold it. Every rank has to call this."""
        return state

    def explained(self, error: BaseException) -> BaseException:
        """Return ``error``; what torch raises where another rank has left is a `RankError` that says how it did."""
        if not self.is_distributed or not dist.is_initialized() or isinstance(error, TrainkitError):
            return error
        if isinstance(error, RuntimeError) and any(word in str(error) for word in _LOST):
            return RankError(self.ranks.watch.why() or f"another rank has left: {error}")
        return error

    def teardown(self) -> None:
        """Release what `setup` took. Called also after an exception, and more than once."""

    def part(self) -> None:
        """After a call that an error has ended, let go of the other ranks, which may wait where this one never comes.

        They find each other anew for what comes next.
        """
        if self.is_distributed:
            end_default_group()

    # Lightning's names for the same

    @property
    def root_device(self) -> torch.device:
        """The same as ``device``."""
        return self.device

    @property
    def global_rank(self) -> int:
        """The same as ``rank``."""
        return self.rank

    @property
    def is_global_zero(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """The same as `broadcast_object`."""
        return self.broadcast_object(obj, src)

    def reduce(self, tensor: Tensor, group: None = None, reduce_op: ReduceOp = "mean") -> Tensor:
        """The same as `all_reduce`; here the mean is the default."""
        return self.all_reduce(tensor, reduce_op)
