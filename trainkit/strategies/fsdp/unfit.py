"""What of a module cannot be sharded: found before anything is."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import is_lazy

from trainkit.errors import ModuleError


def refuse_unfit(module: nn.Module) -> None:
    """Raise `ModuleError` if ``module`` has something that ``fully_shard`` cannot deal out."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.sparse:
            raise ModuleError(
                f"{name or type(module).__name__} has sparse gradients, which cannot be sharded.\n"
                "    to do        make it with sparse=False, or use strategy='ddp'"
            )
    for name, parameter in module.named_parameters():
        if not is_lazy(parameter) and parameter.ndim == 0:
            raise ModuleError(
                f"{name} is one number, which cannot be dealt out.\n"
                "    to do        make it a tensor of one element: nn.Parameter(torch.ones(1))"
            )
        if is_lazy(parameter):
            raise ModuleError(
                f"{name} has no shape yet, and cannot be sharded.\n"
                "    to do        give the sizes to its layers, or call the module once in configure_model"
            )
