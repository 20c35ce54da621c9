"""One process per device, each with a part of the module: ``fully_shard`` of torch, which is FSDP2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim.optimizer import register_optimizer_step_post_hook

from trainkit.checks import flags, number, takes_numpy, text
from trainkit.errors import ConfigError, UnknownNameError
from trainkit.module import TrainModule
from trainkit.module.shards import is_sharded, mapped, whole
from trainkit.module.writable import is_read_only
from trainkit.strategies.base import Strategy
from trainkit.strategies.flat_gradients import broadcast
from trainkit.strategies.fsdp_mesh import data_dims, make_mesh, read_mesh
from trainkit.strategies.fsdp_units import Policy, check_policy, units
from trainkit.strategies.processes import join_group, take_place
from trainkit.strategies.same_modules import refuse_different_modules
from trainkit.types import NO_CONTEXT

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import MixedPrecisionPolicy

CHECKPOINTS = ("full", "sharded")
"""How a checkpoint holds what is sharded."""

_ROOT = "_fsdp_root"
"""Where a module has its root, from the first call that has sharded it."""


class FSDP(Strategy):
    """Parameters, gradients and the states of optimizers are dealt out to the ranks; a unit is whole while it computes.

    Start it with ``torchrun --nproc-per-node=N script.py``. The module stays sharded when the call is over.

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
        checkpoint: ``"full"``: one file with all of the weights, which any strategy loads. ``"sharded"``: what
            `module_state_dict` gives is left in parts.
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
        mixed_precision: MixedPrecisionPolicy | None = None,
        reshard_after_forward: bool = True,
        activation_checkpointing: Policy | bool = False,
        cpu_offload: bool = False,
        mesh: tuple[int, ...] | Mapping[str, int] | None = None,
        checkpoint: Literal["full", "sharded"] = "full",
        process_group_backend: str | None = None,
        timeout_s: float = 1800.0,
    ) -> None:
        flags("FSDP", reshard_after_forward=reshard_after_forward, cpu_offload=cpu_offload)
        text("FSDP", optional=True, process_group_backend=process_group_backend)
        number("timeout_s", timeout_s, above=0, finite=True, where="FSDP")
        if checkpoint not in CHECKPOINTS:
            raise UnknownNameError("checkpoint", str(checkpoint), CHECKPOINTS, "FSDP")
        self.wrap_policy = check_policy("FSDP", "wrap_policy", wrap_policy)
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

    def assign(self, devices: Sequence[torch.device]) -> None:
        take_place(self, devices)

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

    def compute_in(self, dtype: torch.dtype | None) -> None:
        self._autocast_dtype = dtype

    def has_placed(self, module: TrainModule, dtype: torch.dtype | None) -> bool:
        if _ROOT not in vars(module):
            return False
        other = next(
            (each.dtype for each in module.parameters() if each.is_floating_point() and each.dtype != dtype), None
        )
        if dtype is not None and other is not None:
            raise ConfigError(
                f"{type(module).__name__} is sharded, with parameters in {other}, and cannot be converted to {dtype} any "
                "more. Use the precision it was trained with, or build the module anew and load a checkpoint into it."
            )
        return True

    def wrap(self, module: TrainModule) -> None:
        self._root = vars(module).get(_ROOT)
        if self._root is None:
            refuse_different_modules(self, module)
            self._root = self._shard(module)
            vars(module)[_ROOT] = self._root

    def training_step(self, module: TrainModule) -> Callable[..., Any]:
        root = self._root
        if not module.automatic_optimization:
            return self._manual_step(module)

        def step(*arguments: Any) -> Any:
            return root(module.training_step, *arguments)

        return step

    def evaluation_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        root = self._root

        def evaluate(*arguments: Any) -> Any:
            try:
                return root(step, *arguments)
            finally:
                root.reshard()  # no backward comes that would

        return evaluate

    def skips_step(self, skips: bool) -> bool:
        if super().skips_step(skips):
            self._root.reshard()
        return skips

    def gradient_sync(self, *, enabled: bool) -> AbstractContextManager[None]:
        # Each backward leaves its share of the averages, which add up: to hold them back would take the memory of all.
        return NO_CONTEXT

    def sync_gradients(self, module: nn.Module) -> None:
        # Torch averages the gradients of all groups behind a backward that goes through a unit. One that has gone past
        # all of them has left the gradients of what is in no unit to be averaged.
        if any(each.grad is not None and not is_sharded(each) for each in module.parameters()):
            with torch.enable_grad():
                self._root(_start_of_backward, self.device).backward()

    def sync_buffers(self, module: nn.Module) -> None:
        if self.is_distributed:
            broadcast(each for each in module.buffers() if not is_read_only(each))

    def waits_in_backward(self) -> bool:
        return True

    def module_state_dict(self, module: TrainModule) -> dict[str, Any]:
        return self.stored(module.state_dict())

    def stored(self, state: Any) -> Any:
        return mapped(state, lambda each: whole(each.detach()).cpu()) if self.checkpoint == "full" else state

    def _manual_step(self, module: TrainModule) -> Callable[..., Any]:
        """Return a step of several backwards and updates: what is in no unit is kept whole, and renewed by updates."""
        root = self._root
        root.set_reshard_after_backward(False, recurse=False)

        def renew(*_: Any) -> None:
            root.reshard()
            root.unshard()

        def step(*arguments: Any) -> Any:
            # Not within the forward of the root, of which the backward would have to come behind its end.
            handle = register_optimizer_step_post_hook(renew)
            root.unshard()
            try:
                return module.training_step(*arguments)
            finally:
                handle.remove()
                root.reshard()

        return step

    def _shard(self, module: TrainModule) -> Any:
        """Move ``module`` to the device and deal it out, unit by unit: never more of it is whole than it was, and one."""
        root = _Root(module)
        for unit in [*self._units(module), root]:
            self._shard_unit(unit)
        with torch.no_grad():
            root(_nothing)  # so that units which are called by themselves know the root
        root.reshard()  # type: ignore[operator]  # `fully_shard` has made it an FSDPModule
        return root

    def _units(self, module: TrainModule) -> list[nn.Module]:
        return units(module, self.wrap_policy)

    def _shard_unit(self, unit: nn.Module) -> None:
        from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard

        is_root = isinstance(unit, _Root)
        unit.to(self.device)
        own = [each for each in (*unit.parameters(), *unit.buffers()) if not is_sharded(each)]
        broadcast(own)
        mesh = self.device_mesh
        dims = data_dims(mesh)
        fully_shard(
            unit,
            mesh=mesh[dims if len(dims) > 1 else dims[0]],
            reshard_after_forward=None if is_root else self.reshard_after_forward,
            mp_policy=self._mixed_precision(),
            offload_policy=CPUOffloadPolicy(pin_memory=self.device.type == "cuda")
            if self.cpu_offload
            else OffloadPolicy(),
        )

    def _mixed_precision(self) -> MixedPrecisionPolicy:
        from torch.distributed.fsdp import MixedPrecisionPolicy

        if self.mixed_precision is not None:
            return self.mixed_precision
        if self._autocast_dtype is None:
            return MixedPrecisionPolicy()
        # Autocast would keep a copy of all that it casts until the end of the step, the whole module in the end. What
        # is gathered in its dtype it leaves alone.
        return MixedPrecisionPolicy(
            param_dtype=self._autocast_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )


class _Root(nn.Module):
    """A module whose ``forward`` is any step of the module in it: torch gathers ahead of ``forward`` alone."""

    def __init__(self, module: TrainModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, step: Callable[..., Any], *arguments: Any) -> Any:
        return step(*arguments)


def _nothing() -> None:
    """A step that computes nothing."""


def _start_of_backward(device: torch.device) -> Tensor:
    """A step that computes nothing, of which there is a backward."""
    return torch.zeros((), device=device, requires_grad=True).clone()
