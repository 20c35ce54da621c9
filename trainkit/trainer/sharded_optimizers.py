"""Whether an optimizer can update parameters of which each rank has a part: tried on small ones of the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainkit.checkpoint.trial_steps import made_alike
from trainkit.errors import OptimizerError
from trainkit.module.joint_optimizer import parts_of
from trainkit.module.shards import dealt, is_sharded, whole

_SHAPES = ((5, 3), (4,))
"""Of which one cannot be dealt out evenly, whatever the number of ranks."""


def refuse_unfit(optimizers: Sequence[Optimizer]) -> None:
    """Raise `OptimizerError` on every rank if one of ``optimizers`` fails on parts, or makes something else of them.

    Every rank has to call this. One that cannot be made anew is not tried.
    """
    for optimizer in parts_of(optimizers):
        for group in optimizer.param_groups:
            like = next((each for each in group["params"] if is_sharded(each) and each.is_floating_point()), None)
            if like is not None:
                _refuse(optimizer, group, like)
                break


def _refuse(optimizer: Optimizer, options: dict[str, Any], like: Any) -> None:
    values = [torch.linspace(-1, 1, torch.Size(shape).numel(), dtype=like.dtype).view(shape) for shape in _SHAPES]
    if any(each.ndim == 2 for each in options["params"]) and all(each.ndim == 2 for each in options["params"]):
        values = values[:1]  # some take matrices alone
    alone = [nn.Parameter(each.to(like.device, copy=True)) for each in values]
    try:
        expected = _stepped(made_alike(optimizer, options, alone), alone)
    except Exception:
        return  # it needs more than can be told of it here
    placements = [_by_rows(each) for each in like.placements]
    parts = [nn.Parameter(dealt(each.to(like.device), like.device_mesh, placements)) for each in values]
    tolerance = 1e-4 if like.dtype.itemsize >= torch.float32.itemsize else 5e-2
    try:
        found = _stepped(made_alike(optimizer, options, parts), parts)
        pairs = zip(map(whole, found), expected, strict=True)
        is_same = all(torch.allclose(part, one, rtol=tolerance, atol=tolerance) for part, one in pairs)
        reason, cause = ("" if is_same else "it makes something else of parts than of the whole"), None
    except Exception as error:
        reason, cause = str(error).partition("\n")[0], error
    if reason:
        name = type(optimizer).__name__
        raise OptimizerError(
            f"{name} cannot update parameters that are sharded: {reason.rstrip('.')}.\n"
            f"    to do        another optimizer, such as AdamW; or other options of {name}, such as fused=False; or "
            "strategy='ddp'"
        ) from cause


def _stepped(optimizer: Any, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return ``parameters`` after two steps."""
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = parameter.detach().clone()
        with torch.no_grad():
            optimizer.step(lambda: torch.zeros(()))
    return [each.detach() for each in parameters]


def _by_rows(placement: Any) -> Any:
    from torch.distributed.tensor import Shard

    return Shard(0) if placement.is_shard() else placement
