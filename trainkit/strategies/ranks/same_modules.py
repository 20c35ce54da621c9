"""Whether all ranks have built the same module."""

from __future__ import annotations

from itertools import chain

from torch import nn

from trainkit.errors import ModuleError
from trainkit.strategies.base import Strategy


def refuse_different_modules(strategy: Strategy, module: nn.Module) -> None:
    """Raise `ModuleError` on every rank if names, shapes or dtypes of tensors differ between ranks."""
    tensors = chain(module.named_parameters(), module.named_buffers())
    own = {name: (tuple(tensor.shape), str(tensor.dtype)) for name, tensor in tensors}
    for rank, other in enumerate(strategy.all_gather_object(own)):
        name = next((name for name in {**own, **other} if own.get(name) != other.get(name)), None)
        if name is not None:
            there, here = other.get(name, "missing"), own.get(name, "missing")
            raise ModuleError(
                f"the modules of two ranks differ: {name!r} is {there} on rank {rank}, and {here} on rank "
                f"{strategy.rank}. Build the same module on every rank."
            )
