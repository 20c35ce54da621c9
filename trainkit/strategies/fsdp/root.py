"""Dealing a module out to the ranks, unit by unit, and the root through which its steps are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.optimizer import register_optimizer_step_post_hook

from trainkit.errors import ModuleError
from trainkit.module import TrainModule
from trainkit.module.shards import is_sharded, own_part
from trainkit.output import warn
from trainkit.strategies.fsdp.units import chosen_modules, units

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, OffloadPolicy


@dataclass(frozen=True, slots=True)
class Sharding:
    """How a module is dealt out: the arguments of `FSDP`, as ``fully_shard`` takes them.

    Attributes:
        mesh: Of the ranks that have different data.
        device: Where a unit computes.
        wrap_policy: Which submodules are units.
        activation_checkpointing: Which compute their forward again in backward.
        reshard_after_forward: Whether a unit is gathered again for backward.
        mixed_precision: In which dtypes.
        keeps_norms: Whether layers with running statistics stay in their dtypes, as they do under autocast.
        offload: Where parts are kept.
    """

    mesh: DeviceMesh
    device: torch.device
    wrap_policy: Any
    activation_checkpointing: Any
    reshard_after_forward: bool
    mixed_precision: MixedPrecisionPolicy
    keeps_norms: bool
    offload: OffloadPolicy


class Root(nn.Module):
    """A module whose ``forward`` is any step of the module in it: torch gathers ahead of ``forward`` alone.

    ``fully_shard`` makes a subclass of it, with the methods of ``FSDPModule``; the class of the user's module stays.
    """

    # What `fully_shard` adds.
    unshard: Callable[[], Any]
    reshard: Callable[[], Any]
    _get_fsdp_state: Callable[[], Any]

    def __init__(self, module: TrainModule) -> None:
        super().__init__()
        self.module = module
        self._units: list[Any] = []
        self._reshards = True
        self._in_step = self._is_held = self._is_whole = False
        self._own: list[Tensor] = []  # what is in no unit, as it is sharded
        self._versions: list[int] = []
        self._order: list[int] | None = None  # of the units that a step gathers

    def forward(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """Return what ``step`` does."""
        before, self._in_step = self._in_step, True
        try:
            return step(*arguments)
        finally:
            self._in_step = before

    def watch(self, units: Sequence[nn.Module], *, reshards: bool) -> None:
        """Note what is sharded, and let ``forward`` of the module find its parameters outside of steps.

        Args:
            units: Those of the module.
            reshards: Whether each is dealt out again behind its forward.
        """
        self._units, self._reshards = [*units], reshards
        in_units = {id(each) for unit in units for each in unit.parameters()}
        self._own = [each for each in self.module.parameters() if id(each) not in in_units]
        for number, unit in enumerate(units):
            unit.register_forward_pre_hook(partial(self._note, number), prepend=True)
        self.module.register_forward_pre_hook(self._before_forward)
        self.module.register_forward_hook(self._after_forward, always_call=True)

    def free(self) -> None:
        """Deal out again what a step has left whole for a backward that does not come."""
        if not self._is_whole:
            self.reshard()
            for unit in () if self._reshards else self._units:
                unit.reshard()

    def describe(self) -> list[str]:
        """Return which units there are, of how many numbers, and what is in none."""
        kinds = Counter((_kind(unit), sum(each.numel() for each in unit.parameters())) for unit in self._units)
        rest = sum(each.numel() for each in self._own)
        units = ", ".join(f"{times} {kind} of {numbers:,}" for (kind, numbers), times in kinds.items())
        return [
            f"units, whole while they compute: {units or 'none'}",
            f"in none of them, and whole for the time of a step: {rest:,}",
        ]

    # Steps without gradients

    def evaluate(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """Return what ``step`` does, behind which no backward comes."""
        self._order = []
        try:
            return self(step, *arguments)
        finally:
            self.free()
            self._forget_forwards()

    def follow(self) -> None:
        """Gather what the last step of `evaluate` has gathered, for ranks that have another one to do."""
        if self._is_whole:
            return
        self.unshard()
        for number in self._order or ():
            self._units[number].unshard()
            self._units[number].reshard()
        self.free()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Return a context in which all of the module is whole, so that ranks need not meet in its steps."""
        gathered = [self, *self._units]
        for each in self._units:
            each.set_reshard_after_forward(False, recurse=False)
        for each in gathered:
            each.unshard()
        self._is_whole = True
        try:
            yield
        finally:
            self._is_whole = False
            for each in self._units:
                each.set_reshard_after_forward(self._reshards, recurse=False)
            for each in gathered:
                each.reshard()

    def _forget_forwards(self) -> None:
        """Let no backward gather by the order of forwards of which other ranks may have done more, or fewer."""
        # Torch forgets them at the end of a backward, and has no public way to.
        for each in (self, *self._units):
            state = each._get_fsdp_state()
            groups = getattr(state, "_fsdp_param_groups", None) or [state._fsdp_param_group]
            for group in filter(None, groups):
                group._post_forward_indices.clear()
                group.comm_ctx.post_forward_order.clear()

    # Steps of several backwards and updates

    @contextmanager
    def held(self) -> Iterator[None]:
        """Return a context in which all that is in no unit is whole, whatever backwards and updates there are."""
        handle = register_optimizer_step_post_hook(lambda *_: self.renew())
        self._hold()
        self._in_step = self._is_held = True
        try:
            yield
        finally:
            self._in_step = self._is_held = False
            handle.remove()
            self.free()

    def renew(self) -> None:
        """Gather again what is held, as parameters have changed, or whether they are trained."""
        if self._is_held:
            self.reshard()
            self._hold()

    def _hold(self) -> None:
        self.unshard()
        self._versions = [each._version for each in self._own]

    # Hooks

    def _note(self, number: int, *_: Any) -> None:
        if self._order is not None and not torch.is_grad_enabled():
            self._order.append(number)

    def _before_forward(self, *_: Any) -> None:
        if not self._in_step:
            self.unshard()
        elif self._is_held and self._versions != [each._version for each in self._own]:
            self.renew()  # something has changed them past `step` of an optimizer

    def _after_forward(self, *_: Any) -> None:
        # With gradients, a backward may come.
        if not self._in_step and not torch.is_grad_enabled():
            self.free()


def shard(module: TrainModule, how: Sharding) -> Any:
    """Move ``module`` to its device and deal it out; return its `Root`. Every rank has to call this.

    Beyond what is whole already, one unit at a time is: moved, made where it is on the meta device, and made equal to
    that of rank 0.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    root = Root(module)
    # What the user has sharded in `configure_model` is a unit already.
    done = [each for each in module.modules() if isinstance(each, FSDPModule)]
    chosen = [] if done else units(module, how.wrap_policy)
    # A function that chooses nothing is a way to say so.
    if not (done or chosen) and isinstance(how.wrap_policy, tuple | int):
        warn(
            f"FSDP(wrap_policy={how.wrap_policy!r}) chooses no module within {type(module).__name__}, so all of it is "
            "one unit, which is whole for the time of a step. What shares parameters with another module and what "
            "has none can be no unit."
        )
    if how.activation_checkpointing is not False:
        again = chosen if how.activation_checkpointing is True else chosen_modules(module, how.activation_checkpointing)
        wrapped = _checkpointed(module, again)
        chosen = [wrapped.get(id(unit), unit) for unit in chosen]
    kept = _norms(module) if how.keeps_norms and not done else []
    chosen = [*kept, *(each for each in chosen if all(each is not other for other in kept))]
    for unit in [*chosen, root]:
        _materialise(unit, how.device)
        unit.to(how.device)
        _make_equal(unit, how.mesh)
        fully_shard(
            unit,
            mesh=how.mesh,
            # The root is needed until backward begins, and torch keeps it.
            reshard_after_forward=None if unit is root else how.reshard_after_forward,
            mp_policy=MixedPrecisionPolicy() if any(unit is each for each in kept) else how.mixed_precision,
            offload_policy=how.offload,
        )
    sharded: Any = root
    with torch.no_grad():
        sharded(_nothing)  # so that units which are called by themselves know whose they are
    sharded.reshard()
    sharded.watch([*done, *chosen], reshards=how.reshard_after_forward)
    return sharded


def _kind(unit: nn.Module) -> str:
    """Return the name of the class that the user has written."""
    inner = getattr(unit, "_checkpoint_wrapped_module", unit)
    return type(inner).__name__.removeprefix("FSDP")  # of which `fully_shard` makes a subclass


def _norms(module: nn.Module) -> list[nn.Module]:
    """Return the layers that normalise by running statistics: these are not gathered in halves, nor may weights be."""
    layers = [each for each in module.modules() if isinstance(each, _NormBase)]
    return [each for each in layers if next(each.parameters(), None) is not None]


def _checkpointed(module: nn.Module, chosen: list[nn.Module]) -> dict[int, nn.Module]:
    """Let ``chosen`` compute their forward again in backward; return what stands in their place, by their ids."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
        CheckpointWrapper,
        apply_activation_checkpointing,
        checkpoint_wrapper,
    )

    ids = {id(each) for each in chosen}
    apply_activation_checkpointing(
        module, checkpoint_wrapper_fn=checkpoint_wrapper, check_fn=lambda each: id(each) in ids
    )
    wrappers = [each for each in module.modules() if isinstance(each, CheckpointWrapper)]
    return {id(each._checkpoint_wrapped_module): each for each in wrappers}


def _materialise(unit: nn.Module, device: torch.device) -> None:
    """Give memory and values to what ``unit`` has on the meta device."""
    for layer in unit.modules():
        own = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        if not any(each.is_meta for _, each in own):
            continue
        reset = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
        if reset is None:
            names = ", ".join(name for name, each in own if each.is_meta)
            raise ModuleError(
                f"{type(layer).__name__} has {names} on the meta device, and no reset_parameters() that gives it "
                "values.\n"
                f"    to do        define reset_parameters(self) in {type(layer).__name__}, as torch's layers do, or "
                "make it outside of torch.device('meta')"
            )
        layer.to_empty(device=device, recurse=False)
        with torch.no_grad():
            reset()


def _make_equal(unit: nn.Module, mesh: DeviceMesh) -> None:
    """Give all ranks the values of the first of them, where they are not dealt out yet."""
    for tensor in (*unit.parameters(), *unit.buffers()):
        if _is_dealt(tensor, mesh):
            continue
        # What is tensor parallel is equal on the ranks that have one part of it; anything else on all there are.
        groups = [mesh.get_group(dim) for dim in range(mesh.ndim)] if is_sharded(tensor) else [None]
        for group in groups:
            values = own_part(tensor.detach()).contiguous()
            source = 0 if group is None else dist.get_global_rank(group, 0)
            # As bytes, since backends do not know all dtypes.
            dist.broadcast(values.view(-1).view(torch.uint8), src=source, group=group)
            own_part(tensor.detach()).copy_(values)


def _is_dealt(tensor: Tensor, mesh: DeviceMesh) -> bool:
    """Whether ``tensor`` is sharded over the ranks of ``mesh``, and not only along another dimension."""
    names = getattr(getattr(tensor, "device_mesh", None), "mesh_dim_names", None) or ()
    return any(name in names for name in mesh.mesh_dim_names or ())


def _nothing() -> None:
    """A step that computes nothing."""
