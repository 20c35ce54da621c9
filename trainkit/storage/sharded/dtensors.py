"""Which tensors are split over ranks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor

from trainkit.storage.sharded.place_holder import PLACEMENTS, SAVED_AS
from trainkit.storage.walk import replaced, walk

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


_MODULE = "torch.distributed.tensor"


def is_dtensor(value: Any) -> TypeGuard[DTensor]:
    """Return whether ``value`` is a tensor of which each rank has a part."""
    # Its module is slow to import, and has made every such tensor.
    module = sys.modules.get(_MODULE)
    return module is not None and isinstance(value, module.DTensor)


def dtensors_in(value: Any) -> list[tuple[str, DTensor]]:
    """Return all such tensors in ``value`` with their places, in their order."""
    if _MODULE not in sys.modules:
        return []  # without a walk through it
    return [(place, leaf) for place, leaf in walk(value) if is_dtensor(leaf)]


def without_shards(value: Any, keys: dict[int, str] | None = None) -> Any:
    """Return ``value`` with tensors without data in place of those that are split over ranks, as they are saved.

    Args:
        value: The value.
        keys: The key of each by its id; None for any.
    """

    def stand_in(tensor: Tensor) -> Tensor:
        if not is_dtensor(tensor):
            return tensor
        from torch.distributed.tensor import Shard

        form = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        setattr(form, SAVED_AS, keys[id(tensor)] if keys else "any")
        setattr(form, PLACEMENTS, [each.dim if isinstance(each, Shard) else -1 for each in tensor.placements])
        return form

    return replaced(value, stand_in)
