"""Tensors of which each rank holds a part, as ``torch.distributed.tensor.DTensor``: whole, and dealt out again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from trainkit.storage.sharded.dtensors import is_dtensor
from trainkit.storage.sharded.place_holder import SavedTensor


def class_of(module: nn.Module) -> type[nn.Module]:
    """Return the class of ``module``; of one to which ``fully_shard`` has given a subclass, that from before."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None or not isinstance(module, fsdp.FSDPModule):
        return type(module)
    return type(module).__mro__[2]  # behind the subclass and FSDPModule


is_sharded: Callable[[Any], bool] = is_dtensor
"""Whether a value is a `DTensor`: a tensor of which each rank may hold a part."""


def whole(tensor: Any) -> Tensor:
    """Return ``tensor`` with all its parts; one that is not sharded as it is.

    Every rank that holds a part has to call this, and gets all of it.
    """
    full: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor
    return full


def own_part(tensor: Any) -> Tensor:
    """Return what this rank holds of ``tensor``, in the same memory; one that is not sharded as it is."""
    local: Tensor = tensor.to_local() if is_sharded(tensor) else tensor
    return local


def dealt_like(value: Tensor, like: Any) -> Tensor:
    """Return of ``value`` what ``like`` has of its own shape: where that is sharded, this rank's part as a `DTensor`.

    Args:
        value: All of a tensor, equal on every rank: nothing is sent. One of another shape, or sharded, is returned. Of
            one in a sharded checkpoint that is not read yet, what is needed is read.
        like: A tensor, sharded or not.
    """
    if isinstance(value, SavedTensor):
        return value.read_like(like) if isinstance(like, Tensor) and value.shape == like.shape else value
    if not is_sharded(like) or is_sharded(value) or value.shape != like.shape:
        return value
    return dealt(value.to(own_part(like).device), like.device_mesh, like.placements)


def dealt(value: Tensor, mesh: Any, placements: Any) -> Tensor:
    """Return this rank's part of ``value``, which is equal on all ranks, as a `DTensor`."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    made: Tensor = distribute_tensor(value, mesh, placements, src_data_rank=None)
    local = own_part(made)
    if local.untyped_storage().nbytes() == local.nbytes:
        return made
    # A part that is a view would keep all of ``value`` in memory.
    shape, stride = made.shape, made.stride()
    return DTensor.from_local(local.clone(), mesh, placements, run_check=False, shape=shape, stride=stride)


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return ``value`` (dicts, lists and tuples) with ``function`` applied to every sharded tensor in it.

    What has none in it is returned as it is.
    """
    if is_sharded(value):
        return function(value)
    if isinstance(value, dict):
        items = {key: mapped(each, function) for key, each in value.items()}
        return value if all(items[key] is each for key, each in value.items()) else type(value)(items)
    if type(value) in (list, tuple):
        parts = [mapped(each, function) for each in value]
        return value if all(part is each for part, each in zip(parts, value, strict=True)) else type(value)(parts)
    return value


def bare_copy(module: nn.Module) -> nn.Module:
    """Return a module of the parameters and buffers of ``module``, copied, under the same names, and nothing else.

    What is sharded cannot be copied as it is: torch refuses to copy modules that ``fully_shard`` was called with.
    """
    copies: dict[int, Any] = {}

    def copy_of(tensor: Any) -> Any:
        if tensor is not None and id(tensor) not in copies:
            copy = tensor.detach().clone()
            is_parameter = isinstance(tensor, nn.Parameter)
            copies[id(tensor)] = nn.Parameter(copy, tensor.requires_grad) if is_parameter else copy
        return None if tensor is None else copies[id(tensor)]

    def bare(layer: nn.Module) -> nn.Module:
        if id(layer) not in copies:
            copies[id(layer)] = made = nn.Module()
            for name, parameter in layer._parameters.items():
                made.register_parameter(name, copy_of(parameter))
            for name, buffer in layer._buffers.items():
                made.register_buffer(name, copy_of(buffer), persistent=name not in layer._non_persistent_buffers_set)
            for name, child in layer.named_children():
                made.add_module(name, bare(child))
        return copies[id(layer)]  # type: ignore[no-any-return]  # a module under the id of a module

    return bare(module)
