"""Making the tensors of a module ready for weights that are written into them."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn


def make_writable(module: nn.Module) -> None:
    """Replace each parameter and buffer of ``module`` into which torch does not write by a copy into which it does.

    Such are tensors that `Tensor.expand` made, in which several values are one place in memory, and those that were
    made in `torch.inference_mode`. A tensor that stands in several places stays one tensor.
    """
    copies: dict[int, Tensor] = {}
    for owner in module.modules():
        own = chain(
            owner.named_parameters(recurse=False, remove_duplicate=False),
            owner.named_buffers(recurse=False, remove_duplicate=False),
        )
        for name, tensor in list(own):
            # Of a subclass only its own code knows what a copy of it is.
            if type(tensor) in (Tensor, nn.Parameter) and is_read_only(tensor):
                setattr(owner, name, copies.setdefault(id(tensor), _copy(tensor)))


def is_read_only(tensor: Tensor) -> bool:
    """Return whether torch refuses to write into ``tensor``."""
    if tensor.is_inference():
        return True
    # What torch asks before it writes. Of other overlaps it does not know, and writes the same values twice.
    is_dense = tensor.layout is torch.strided and not tensor.is_nested
    return is_dense and any(n > 1 and not step for n, step in zip(tensor.shape, tensor.stride(), strict=True))


def _copy(tensor: Tensor) -> Tensor:
    copy = tensor.detach().clone(memory_format=torch.contiguous_format)
    return nn.Parameter(copy, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copy
