"""The mesh of ranks on which `FSDP` shards: which ranks hold parts, which copies, and which share each computation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainkit.checks import is_whole
from trainkit.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

TENSOR_PARALLEL = ("tp", "tensor_parallel")
"""Names of the dimension along which ranks compute one batch together."""

_NAMES = {1: ("shard",), 2: ("replicate", "shard")}

_ALLOWED = (
    "Allowed: (replicas, shards), such as (2, 4); or a dict of sizes by name, such as {'replicate': 2, 'shard': 4} or "
    "{'dp': 2, 'tp': 4}, in which 'tp' (or 'tensor_parallel') is tensor parallel, and the others, one or two, are data "
    "parallel"
)


def read_mesh(mesh: Any) -> dict[str, int] | None:
    """Return the sizes of a mesh by the names of its dimensions; None if it is to be all ranks.

    Raises:
        ConfigError: If ``mesh`` is none that can be sharded on.
    """
    if mesh is None:
        return None
    if isinstance(mesh, tuple | list) and len(mesh) in _NAMES:
        mesh = dict(zip(_NAMES[len(mesh)], mesh, strict=True))
    if not isinstance(mesh, Mapping) or not all(
        isinstance(name, str) and is_whole(size, at_least=1) for name, size in mesh.items()
    ):
        raise ConfigError(f"FSDP(mesh={mesh!r}) is not usable. {_ALLOWED}.")
    data = [name for name in mesh if name not in TENSOR_PARALLEL]
    if len(data) not in (1, 2) or len(mesh) - len(data) > 1:
        raise ConfigError(f"FSDP(mesh={dict(mesh)!r}) has {len(data)} data-parallel dimensions. {_ALLOWED}.")
    return dict(mesh)


def make_mesh(device_type: str, sizes: Mapping[str, int] | None, world_size: int) -> DeviceMesh:
    """Return the mesh of all ranks. Every rank has to call this.

    Raises:
        DeviceError: If it has another number of ranks than were started.
    """
    from torch.distributed.device_mesh import init_device_mesh

    sizes = {"shard": world_size} if sizes is None else sizes
    if math.prod(sizes.values()) != world_size:
        product = " x ".join(f"{size} ({name})" for name, size in sizes.items())
        raise DeviceError(
            f"FSDP(mesh=...) is for {product} = {math.prod(sizes.values())} ranks, and {world_size} were started.\n"
            f"    start with   torchrun --nproc-per-node={math.prod(sizes.values())} script.py"
        )
    return init_device_mesh(device_type, tuple(sizes.values()), mesh_dim_names=tuple(sizes))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rank stands in a mesh, as far as its data goes.

    Attributes:
        data_dims: The dimensions along which ranks have different data.
        data_rank: The number of its data.
        data_world_size: How many different data there are.
        first_ranks: The first of the ranks that have each of them.
    """

    data_dims: tuple[str, ...] = ("shard",)
    data_rank: int = 0
    data_world_size: int = 1
    first_ranks: tuple[int, ...] = (0,)


def place_in(sizes: Mapping[str, int] | None, rank: int, world_size: int) -> Place:
    """Return the place of ``rank`` in the mesh of `make_mesh`, in which the last dimension runs fastest."""
    sizes = {"shard": world_size} if sizes is None else sizes
    dims = tuple(name for name in sizes if name not in TENSOR_PARALLEL)
    first_ranks: dict[int, int] = {}
    own = 0
    for each in range(world_size):
        rest, data_rank, stride = each, 0, 1
        for name in reversed([*sizes]):
            rest, index = divmod(rest, sizes[name])
            if name in dims:
                data_rank += stride * index
                stride *= sizes[name]
        first_ranks.setdefault(data_rank, each)
        if each == rank:
            own = data_rank
    return Place(dims, own, len(first_ranks), tuple(first_ranks[number] for number in sorted(first_ranks)))
