"""Reading what stands in a checkpoint for sharded tensors, where a module tells which part each rank needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from trainkit.module.shards import is_sharded
from trainkit.storage.sharded.place_holder import SavedTensor
from trainkit.storage.walk import replaced

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def read_parts(state: Any, module: nn.Module) -> Any:
    """Return ``state`` with all read that is in a sharded checkpoint: this rank's part of it, if ``module`` is sharded.

    It is dealt out as a parameter of that shape is, or else as it was when it was saved.
    """
    parameters: list[Any] = [each for each in module.parameters() if is_sharded(each)]
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
