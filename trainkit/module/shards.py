"""Tensors of which each rank holds a part, as ``torch.distributed.tensor.DTensor``: whole, and dealt out again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trainkit.storage.sharded.dtensors import is_dtensor as is_sharded
from trainkit.storage.sharded.place_holder import SavedTensor
from trainkit.storage.walk import replaced

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

__all__ = ["dealt_as_saved", "dealt_like", "is_sharded", "mapped", "own_part", "read_parts", "same_tensors", "whole"]


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
    from torch.distributed.tensor import distribute_tensor

    device = own_part(like).device
    dealt: Tensor = distribute_tensor(value.to(device), like.device_mesh, like.placements, src_data_rank=None)
    # A part that is a view would keep all of ``value`` in memory.
    local = own_part(dealt)
    if local.untyped_storage().nbytes() > local.nbytes:
        dealt = type(dealt).from_local(
            local.clone(), like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
        )
    return dealt


def read_parts(state: Any, module: nn.Module) -> Any:
    """Return ``state`` with all read that is in a sharded checkpoint: this rank's part of it, if ``module`` is sharded.

    It is dealt out as a parameter of that shape is, or else as it was when it was saved.
    """
    parameters = [each for each in module.parameters() if is_sharded(each)]
    by_shape = {each.shape: each for each in reversed(parameters)}

    def read(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, SavedTensor):
            return tensor
        if tensor.shape in by_shape:
            return tensor.read_like(by_shape[tensor.shape])
        return dealt_as_saved(tensor, parameters[0]) if parameters else tensor.read()

    return replaced(state, read)


def dealt_as_saved(saved: SavedTensor, beside: DTensor) -> Tensor:
    """Read a tensor of a sharded checkpoint, split over the ranks of ``beside`` as it was when it was saved.

    Where they are arranged in another way than then, each has all of it.
    """
    from torch.distributed.tensor import Replicate, Shard, empty

    mesh = beside.device_mesh
    splits: Sequence[int] = saved.placements if len(saved.placements) == mesh.ndim else [-1] * mesh.ndim
    placements = [Replicate() if dimension < 0 else Shard(dimension) for dimension in splits]
    like = empty(saved.shape, dtype=saved.dtype, device_mesh=mesh, placements=placements)
    return saved.read_like(like)


def mapped(value: Any, function: Any) -> Any:
    """Return ``value`` (dicts, lists and tuples) with ``function`` applied to every sharded tensor in it."""
    if isinstance(value, Tensor):
        return function(value) if is_sharded(value) else value
    if isinstance(value, dict):
        return type(value)((key, mapped(each, function)) for key, each in value.items())
    if isinstance(value, list):
        return [mapped(each, function) for each in value]
    if type(value) is tuple:
        return tuple(mapped(each, function) for each in value)
    return value


def same_tensors(first: Tensor, second: Tensor) -> bool:
    """Return whether what this rank holds of two tensors is equal."""
    return torch.equal(own_part(first), own_part(second))
