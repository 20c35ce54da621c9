"""Norms of gradients."""

from __future__ import annotations

import torch
from torch import nn

from trainkit.errors import ConfigError


def grad_norm(module: nn.Module, norm_type: float | int | str, group_separator: str = "/") -> dict[str, torch.Tensor]:
    """Return the norm of each parameter's gradient and of all together, for ``self.log_dict``.

    Args:
        module: Whose gradients; call it after backward, as in ``on_before_optimizer_step``.
        norm_type: The order of the norm, such as 2 or ``"inf"``.
        group_separator: Stands before the names of parameters.

    Raises:
        ConfigError: If ``norm_type`` is not above 0.
    """
    order = float(norm_type)
    if not order > 0:
        raise ConfigError(f"norm_type={norm_type!r} must be above 0.")
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    norms = {
        f"grad_{order}_norm{group_separator}{name}": torch.linalg.vector_norm(gradient, order)
        for name, gradient in gradients.items()
    }
    if norms:
        total = torch.linalg.vector_norm(torch.stack(list(norms.values())), order)
        norms[f"grad_{order}_norm_total"] = total
    return norms
