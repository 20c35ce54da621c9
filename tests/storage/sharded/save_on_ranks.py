"""Sharded checkpoints of drawn tensors, on however many ranks: ``python save_on_ranks.py FOLDER save|load [NAME ...]``.

``save`` writes ``FOLDER/N.ckpt`` on N ranks, and what is in it, whole, to ``FOLDER/N.pt``. ``load`` reads checkpoints
of these names into tensors that are split in other ways, and compares them.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from trainkit.checkpoint.sharded_save import save_sharded
from trainkit.storage.files import read_checkpoint
from trainkit.storage.sharded.writer import ShardedWrite
from trainkit.strategies.ddp import DDP

TENSORS = 40
DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.complex64, torch.uint8)


def drawn(chance: random.Random) -> Tensor:
    """Return a tensor of any shape, also without dimensions or without elements."""
    shape = [chance.choice((0, 1, 1, 2, 3, 5, 8)) for _ in range(chance.randrange(4))]
    dtype = chance.choice(DTYPES)
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(chance.randrange(2**31)), dtype=torch.float64)
    return (numbers * 10).to(dtype)


def meshes(world_size: int) -> list[DeviceMesh]:
    """Return all meshes of these ranks with one or two dimensions."""
    sizes = [(world_size,)]
    sizes += [(rows, world_size // rows) for rows in range(1, world_size + 1) if world_size % rows == 0]
    return [init_device_mesh("cpu", size) for size in sizes]


def split(tensor: Tensor, mesh: DeviceMesh, chance: random.Random) -> DTensor:
    """Return ``tensor`` dealt out in any way."""
    choices = [Replicate(), *(Shard(dimension) for dimension in range(tensor.ndim))]
    placements = [chance.choice(choices) for _ in range(mesh.ndim)]
    return distribute_tensor(tensor, mesh, placements, src_data_rank=None)


def checkpoint_of(tensors: list[Tensor], plain: Tensor) -> dict[str, Any]:
    half = len(tensors) // 2
    return {
        "state_dict": {"plain": plain, "a.b": tensors[0], "a": {"b": tensors[1]}, "tied": tensors[0]},
        "list": [*tensors[2:half], (tensors[half], {"deep": tensors[half + 1 :]}), 3],
        "number": 0.5,
    }


def save(folder: Path, strategy: DDP) -> None:
    chance = random.Random(strategy.world_size)
    wholes = [drawn(chance) for _ in range(TENSORS)]
    ways = meshes(strategy.world_size)
    parts: list[Any] = [split(each, chance.choice(ways), chance) for each in wholes]
    name = str(strategy.world_size)
    save_sharded(checkpoint_of(parts, torch.arange(3)), folder / f"{name}.ckpt", strategy, ShardedWrite.publish)
    if strategy.is_global_zero:
        torch.save(checkpoint_of(wholes, torch.arange(3)), folder / f"{name}.pt")


def load(folder: Path, name: str, strategy: DDP) -> None:
    chance = random.Random(7 * strategy.world_size)
    saved = read_checkpoint(folder / f"{name}.ckpt", whole=False)
    expected = torch.load(folder / f"{name}.pt", weights_only=True)
    ways = meshes(strategy.world_size)
    compared = 0
    pairs = [(saved["state_dict"][key], expected["state_dict"][key]) for key in ("a.b", "tied")]
    pairs += [(saved["state_dict"]["a"]["b"], expected["state_dict"]["a"]["b"])]
    pairs += zip(saved["list"][:-2], expected["list"][:-2], strict=True)
    pairs += zip(saved["list"][-2][1]["deep"], expected["list"][-2][1]["deep"], strict=True)
    for place_holder, whole in pairs:
        like = split(torch.zeros_like(whole), chance.choice(ways), chance)
        read = place_holder.read_like(like)
        assert read.placements == like.placements, (read.placements, like.placements)
        assert torch.equal(read.full_tensor(), whole), place_holder
        assert torch.equal(place_holder.read(), whole), place_holder
        compared += 1
    print(f"compared {compared}")


if __name__ == "__main__":
    folder, job, *names = sys.argv[1:]
    ddp = DDP()
    ddp.assign([torch.device("cpu")] * int(os.environ["WORLD_SIZE"]))
    ddp.setup()
    if job == "save":
        save(Path(folder), ddp)
    for each in names:
        load(Path(folder), each, ddp)
    ddp.barrier()
