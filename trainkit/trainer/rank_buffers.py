"""Buffers that training writes on each rank, such as the running statistics of BatchNorm, and that so differ."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from trainkit.errors import StateError
from trainkit.strategies.base import Strategy


def own_buffers(strategy: Strategy, module: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that this rank has others of than rank 0, whose are saved as those of the module.

    Every rank has to call this. Between two validations ranks exchange buffers in some of their steps only, or in none.
    """
    if not strategy.is_distributed:
        return {}
    saved = module.state_dict()
    own = {name: each.detach().cpu() for name, each in module.named_buffers() if name in saved}
    if not own:
        return {}  # nor has any other rank
    sums = {name: _checksum(each) for name, each in own.items()}
    first: dict[str, int] = strategy.broadcast_object(sums)
    return {name: each for name, each in own.items() if sums[name] != first.get(name)}


def restore_buffers(module: nn.Module, buffers: dict[str, Any]) -> None:
    """Give ``module`` what `own_buffers` returned.

    Raises:
        StateError: If one has another shape.
    """
    own = dict(module.named_buffers())
    with torch.no_grad():
        for name in buffers.keys() & own.keys():
            if own[name].shape != buffers[name].shape:
                shapes = f"{tuple(buffers[name].shape)}, and {tuple(own[name].shape)} in the module"
                raise StateError(f"the buffer {name!r} has the shape {shapes}")
            own[name].copy_(buffers[name])


def _checksum(tensor: Tensor) -> int:
    # As bytes, which every dtype has.
    return (
        crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        if tensor.layout is torch.strided
        else 0
    )
