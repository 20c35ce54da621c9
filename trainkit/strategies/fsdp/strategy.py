"""One process per device, each with a part of the module: ``fully_shard`` of torch, which is FSDP2."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from trainkit.checks import flags, number, takes_numpy, text
from trainkit.errors import ConfigError, ModuleError, UnknownNameError
from trainkit.module import TrainModule
from trainkit.module.shards import is_sharded, mapped, whole
from trainkit.module.writable import is_read_only
from trainkit.strategies.base import Strategy
from trainkit.strategies.flat_gradients import broadcast
from trainkit.strategies.fsdp.mesh import Place, make_mesh, place_in, read_mesh
from trainkit.strategies.fsdp.root import Sharding, shard
from trainkit.strategies.fsdp.unfit import refuse_unfit
from trainkit.strategies.fsdp.units import Policy, check_policy
from trainkit.strategies.launch.processes import join_group, take_place
from trainkit.strategies.ranks.same_modules import refuse_different_modules
from trainkit.types import NO_CONTEXT

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import MixedPrecisionPolicy

T = TypeVar("T")

_END = object()
"""Stands for the batch that a rank has no more."""

CHECKPOINTS = ("full", "sharded")
"""How a checkpoint holds what is sharded."""

_ROOT = "_fsdp_root"
"""Where a module has its root, from the first call that has sharded it."""


class FSDP(Strategy):
    """Parameters, gradients and the states of optimizers are dealt out to the ranks; a unit is whole while it computes.

    Start it with ``torchrun --nproc-per-node=N script.py``, or ``Trainer(devices=N)``. The module stays sharded when
    the call is over.

    Args:
        wrap_policy: Which submodules are units: classes of them, a function that tells of a module, or the number of
            parameters from which on one is. By default the members of ``ModuleList`` and ``Sequential`` of which there
            are several of one class. What is in no unit is whole for the time of a step.
        mixed_precision: In which dtypes units compute and gradients are averaged. By default that of autocast where the
            precision has it, with averages in float32; else the dtype of the parameters.
        reshard_after_forward: Whether a unit is gathered again for backward rather than kept.
        activation_checkpointing: Which submodules compute their forward again in backward, rather than keep all of it:
            classes or a function, as for ``wrap_policy``, or True for the units. By default none.
        cpu_offload: Whether parameters, gradients and optimizer states are kept in the memory of the CPU.
        mesh: ``(replicas, shards)`` for copies of shards (HSDP), or sizes by name, in which ``tp`` is tensor parallel:
            ``{"dp": 2, "tp": 4}``. By default all ranks shard.
        checkpoint: ``"sharded"``: a folder, into which each rank writes its parts. ``"full"``: one file, for which rank
            0 gathers all of them. Any strategy goes on from both.
        process_group_backend: As for ``torch.distributed.init_process_group``. By default nccl for tensors on a GPU and
            gloo for those on the CPU.
        timeout_s: How long a rank waits for the others before it raises.

    Source: Zhao et al. 2023, "PyTorch FSDP", arXiv:2304.11277; ``torch.distributed.fsdp.fully_shard``.
    """

    name = "fsdp"
    uses_all_devices = True
    shards = True

    @takes_numpy
    def __init__(
        self,
        *,
        wrap_policy: Policy = None,
        mixed_precision: Any = None,  # a MixedPrecisionPolicy, whose import takes longer than that of all else
        reshard_after_forward: bool = True,
        activation_checkpointing: Policy | bool = False,
        cpu_offload: bool = False,
        mesh: tuple[int, ...] | list[int] | Mapping[str, int] | None = None,
        checkpoint: Literal["full", "sharded"] = "sharded",
        process_group_backend: str | None = None,
        timeout_s: float = 1800.0,
    ) -> None:
        flags("FSDP", reshard_after_forward=reshard_after_forward, cpu_offload=cpu_offload)
        text("FSDP", optional=True, process_group_backend=process_group_backend)
        number("timeout_s", timeout_s, above=0, finite=True, where="FSDP")
        if checkpoint not in CHECKPOINTS:
            raise UnknownNameError("checkpoint", str(checkpoint), CHECKPOINTS, "FSDP")
        self.wrap_policy = check_policy("FSDP", "wrap_policy", wrap_policy)
        if mixed_precision is not None and not hasattr(mixed_precision, "param_dtype"):
            raise ConfigError(
                f"FSDP(mixed_precision={mixed_precision!r}) is not usable. Allowed: a MixedPrecisionPolicy of "
                "torch.distributed.fsdp, or None, which follows Trainer(precision=...)."
            )
        self.mixed_precision = mixed_precision
        self.reshard_after_forward = reshard_after_forward
        self.activation_checkpointing = (
            activation_checkpointing
            if isinstance(activation_checkpointing, bool)
            else check_policy("FSDP", "activation_checkpointing", activation_checkpointing)
        )
        self.cpu_offload = cpu_offload
        self.mesh = read_mesh(mesh)
        self.checkpoint = checkpoint
        self.process_group_backend = process_group_backend
        self.timeout_s = timeout_s
        self._device_mesh: DeviceMesh | None = None
        self._group: Any = None  # the process group of that mesh
        self._autocast_dtype: torch.dtype | None = None
        self._root: Any = None
        self._place = Place()

    def assign(self, devices: Sequence[torch.device]) -> None:
        take_place(self, devices)
        self._place = place_in(self.mesh, self.rank, self.world_size)

    def setup(self) -> None:
        super().setup()
        join_group(self, self.process_group_backend)
        if self._device_mesh is None or self._group is not dist.group.WORLD:
            self._device_mesh = make_mesh(self.device.type, self.mesh, self.world_size)
            self._group = dist.group.WORLD

    @property
    def device_mesh(self) -> DeviceMesh:
        """The mesh of all ranks, with the names of its dimensions; from the beginning of a call on."""
        if self._device_mesh is None:
            self.setup()
        assert self._device_mesh is not None, "setup() has made it"
        return self._device_mesh

    @property
    def data_rank(self) -> int:
        return self._place.data_rank

    @property
    def data_world_size(self) -> int:
        return self._place.data_world_size

    def one_of_each_data(self, values: Sequence[T]) -> list[T]:
        return [values[rank] for rank in self._place.first_ranks]

    def compute_in(self, dtype: torch.dtype | None) -> None:
        self._autocast_dtype = dtype

    def has_placed(self, module: TrainModule, dtype: torch.dtype | None) -> bool:
        if _ROOT not in vars(module):
            return False
        dtypes = {each.dtype for each in module.parameters() if each.is_floating_point()}
        if dtype is not None and dtypes - {dtype}:
            raise ConfigError(
                f"{type(module).__name__} is sharded, with parameters in {dtypes.pop()}, and cannot be converted to "
                f"{dtype} any more.\n"
                "    to do        use the precision it was trained with, or build the module anew and load a checkpoint"
            )
        return True

    def wrap(self, module: TrainModule) -> None:
        group, self._root = vars(module).get(_ROOT, (None, None))
        if self._root is None:
            refuse_unfit(module)
            refuse_different_modules(self, module)
            self._root = shard(module, self._sharding())
            vars(module)[_ROOT] = self._group, self._root
        elif group is not self._group and self.is_distributed:
            raise ModuleError(
                f"{type(module).__name__} is sharded over ranks that have lost each other, by an error that has ended "
                "an earlier call.\n"
                "    to do        build the module anew, and continue from a checkpoint"
            )

    def training_step(self, module: TrainModule) -> Callable[..., Any]:
        root = self._root
        # Of a step of several backwards and updates what is in no unit has to stay whole until its end.
        root.set_reshard_after_backward(module.automatic_optimization, recurse=False)
        if not module.automatic_optimization:
            return self._manual_step(module)

        def step(*arguments: Any) -> Any:
            return root(module.training_step, *arguments)

        return step

    def evaluation_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        return partial(self._root.evaluate, step)

    def in_turns(self, batches: Iterator[T]) -> Iterator[T]:
        if not self.is_distributed:
            yield from batches
            return
        # Ranks meet in each step. One that has no batch any more gathers along, as long as another has one.
        first = next(batches, _END)
        has_batch: list[bool] = self.all_gather_object(first is not _END)
        if not any(has_batch):
            return
        # One that has had none cannot know what the others gather for theirs.
        with nullcontext() if all(has_batch) else self._root.whole():
            for turn, batch in enumerate(chain([first], batches, repeat(_END))):
                if turn and not self.any_rank(batch is not _END):
                    return
                if batch is _END:
                    self._root.follow()
                else:
                    yield batch  # type: ignore[misc]  # _END is none of them

    def gradient_sync(self, *, enabled: bool) -> AbstractContextManager[None]:
        # Each backward adds its share to the averages: held back, gradients would take the memory of the whole module.
        return NO_CONTEXT

    def skips_step(self, skips: bool) -> bool:
        if super().skips_step(skips) and self._root is not None:
            self._root.free()
        return skips

    def sync_gradients(self, module: nn.Module) -> None:
        # Torch averages behind a backward that goes through a unit or the end of a step. One that has gone past all of
        # them has left the gradients of what is in no unit.
        if any(each.grad is not None and not is_sharded(each) for each in module.parameters()):
            with torch.enable_grad():
                self._root(_start_of_backward, self.device).backward()

    def sync_buffers(self, module: nn.Module) -> None:
        if self.is_distributed:
            broadcast(each for each in module.buffers() if not is_read_only(each) and not is_sharded(each))

    def waits_in_backward(self) -> bool:
        return self.is_distributed

    def parameters_changed(self) -> None:
        if self._root is not None:
            self._root.renew()

    def describe(self, module: TrainModule) -> Sequence[str]:
        mesh = self.device_mesh
        units: Sequence[str] = self._root.describe()
        return ["mesh: " + ", ".join(f"{name} {mesh[name].size()}" for name in mesh.mesh_dim_names or ()), *units]

    def module_state_dict(self, module: TrainModule) -> dict[str, Any]:
        kept: dict[int, Any] = {}  # a tied parameter is gathered once

        def value_of(each: Any) -> Any:
            if id(each) not in kept:
                kept[id(each)] = self.stored(each.detach() if isinstance(each, Tensor) else each)
            return kept[id(each)]

        return {name: value_of(each) for name, each in module.state_dict(keep_vars=True).items()}

    def stored(self, state: Any) -> Any:
        return mapped(state, self._for_rank_0) if self.checkpoint == "full" else state

    def _for_rank_0(self, tensor: Any) -> Tensor:
        """Return all of ``tensor`` in the memory of the CPU on rank 0, which writes; elsewhere zeros in one place."""
        full = whole(tensor.detach())
        return full.cpu() if self.is_global_zero else torch.zeros((), dtype=full.dtype).expand(full.shape)

    def _manual_step(self, module: TrainModule) -> Callable[..., Any]:
        """Return a step of several backwards and updates: what is in no unit is kept whole, and renewed by updates."""
        root = self._root

        def step(*arguments: Any) -> Any:
            # Not within the forward of the root: torch averages the gradients of a backward that comes behind its end.
            with root.held():
                return module.training_step(*arguments)

        return step

    def _sharding(self) -> Sharding:
        from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy

        dims = self._place.data_dims
        pins = self.device.type == "cuda"
        return Sharding(
            mesh=self.device_mesh[dims if len(dims) > 1 else dims[0]],
            device=self.device,
            wrap_policy=self.wrap_policy,
            activation_checkpointing=self.activation_checkpointing,
            reshard_after_forward=self.reshard_after_forward,
            mixed_precision=self._mixed_precision(),
            keeps_norms=self.mixed_precision is None and self._autocast_dtype is not None,
            offload=CPUOffloadPolicy(pin_memory=pins) if self.cpu_offload else OffloadPolicy(),
        )

    def _mixed_precision(self) -> MixedPrecisionPolicy:
        from torch.distributed.fsdp import MixedPrecisionPolicy

        if self.mixed_precision is not None:
            given: MixedPrecisionPolicy = self.mixed_precision
            return given
        if self._autocast_dtype is None:
            return MixedPrecisionPolicy()
        # Autocast would keep a copy of all that it casts until the end of the step, the whole module in the end. What
        # is gathered in its dtype it leaves alone.
        return MixedPrecisionPolicy(
            param_dtype=self._autocast_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )


def _start_of_backward(device: torch.device) -> Tensor:
    """A step that computes nothing, of which there is a backward."""
    return torch.zeros((), device=device, requires_grad=True).clone()
