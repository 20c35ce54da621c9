"""Whether the ranks still have the same weights in manual optimization, where only ``step()`` exchanges gradients."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import torch
from torch import Tensor

from trainkit.errors import ModuleError
from trainkit.hooks.bound import BoundHooks
from trainkit.loops.run import FitRun
from trainkit.module import TrainModule
from trainkit.reflection import overrides
from trainkit.strategies.base import Strategy
from trainkit.types import Batch, StepOutput

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def exchanges_at_steps(strategy: Strategy) -> bool:
    """Whether ranks hold copies of the weights that stay equal because ``strategy`` averages gradients at updates."""
    return strategy.is_distributed and overrides(strategy, "sync_gradients", Strategy)


def compared(step: Callable[..., StepOutput]) -> Callable[..., StepOutput]:
    """Return ``step`` with a comparison of the ranks' weights after the batches 1, 2, 4, 8, ... of a fit.

    The first update may have been made with a learning rate of 0, and other optimizers may come later, so once is not
    enough; and after each batch would be as slow as the exchange itself.
    """
    batches = count(1)

    def compared_step(run: FitRun, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
        outputs = step(run, hooks, batch, batch_idx, is_last)
        number = next(batches)
        if number & (number - 1) == 0:
            _require_same_weights(run.strategy, run.module, batch_idx)
        return outputs

    return compared_step


def _require_same_weights(strategy: Strategy, module: TrainModule, batch_idx: int) -> None:
    """Raise `ModuleError` on every rank if the weights of ``module`` differ between ranks."""
    own = {name: _sum_of_bits(parameter) for name, parameter in module.named_parameters()}
    differing = _first_difference(strategy.all_gather_object(own))
    if differing is not None:
        raise ModuleError(
            f"the ranks have drifted apart: after training batch {batch_idx} they have different weights in "
            f"{differing!r}. With manual optimization they exchange\ngradients in step() of self.optimizers(), and an "
            f"update of {type(module).__name__} went past it.\n"
            "    to do        call self.optimizers().step(), with a closure if it updates in several steps (SAM);\n"
            "                 or call self.trainer.strategy.sync_gradients(self) after each manual_backward"
        )


def _first_difference(ranks: list[dict[str, Any]]) -> str | None:
    """Return the name of a tensor that is not the same on all ranks; None if there is none."""
    return next((name for name, sum_ in ranks[0].items() if any(other.get(name) != sum_ for other in ranks)), None)


def _sum_of_bits(parameter: Tensor) -> int | None:
    """Return a number that another value of ``parameter`` changes, whatever the order in which a device adds up."""
    # One that is still to be given a shape, or is sparse, or quantized, is not compared.
    if parameter.layout is not torch.strided or torch.nn.parameter.is_lazy(parameter) or parameter.is_quantized:
        return None
    values = parameter.detach().resolve_conj().resolve_neg()
    values = (torch.view_as_real(values) if values.is_complex() else values).contiguous()
    return int(values.view(_INTEGERS[values.element_size()]).sum(dtype=torch.int64))
