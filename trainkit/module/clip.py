"""Clipping by the norm of all gradients, also of those that are sharded in different ways."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from trainkit.module.shards import is_sharded, whole


def clip_norm(parameters: Iterable[Tensor], max_norm: float) -> None:
    """Scale the gradients of ``parameters`` down until the norm of all of them together is at most ``max_norm``."""
    parameters = list(parameters)
    gradients = [each.grad for each in parameters if each.grad is not None]
    # By type first, which calls nothing for each of the many: no plain tensor is sharded.
    if {*map(type, gradients)} <= {Tensor} or not any(map(is_sharded, gradients)):
        nn.utils.clip_grad_norm_(parameters, max_norm)
        return
    # Torch takes the norm of tensors of one mesh only, and here some may be tensor parallel and others not.
    kinds: dict[object, list[Tensor]] = {}
    for gradient in gradients:
        kinds.setdefault(getattr(gradient, "device_mesh", None), []).append(gradient)
    norms = [whole(nn.utils.get_total_norm(each)) for each in kinds.values()]
    total = torch.linalg.vector_norm(torch.stack(norms))
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)  # as torch does
    for gradient in gradients:
        gradient.mul_(factor)
