"""The value of a name over a phase as it grows: one number, however many batches."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from trainkit.metrics.options import ReduceFx

_START: dict[ReduceFx, float] = {"mean": 0.0, "sum": 0.0, "min": math.inf, "max": -math.inf}


class Running:
    """A weighted mean, a sum, a minimum or a maximum of all values so far.

    Numbers are kept as a number; the first tensor turns that into a tensor on its device, which from then on is changed
    in place, without waiting for it. Sums are float64 (float32 on mps, which has nothing wider).

    Attributes:
        reduce_fx: How values are put together.
        total: The sum of values times weights (mean), or the sum, minimum or maximum.
        weight: The sum of all weights.
        dtype: Of `value`, if tensors were added: theirs, but at least the default dtype.
    """

    __slots__ = ("dtype", "reduce_fx", "total", "weight")

    def __init__(self, reduce_fx: ReduceFx) -> None:
        self.reduce_fx: ReduceFx = reduce_fx
        self.total: float | Tensor = _START[reduce_fx]
        self.weight = 0.0
        self.dtype: torch.dtype | None = None

    def add(self, value: float | Tensor, weight: float) -> None:
        """Take one value in: a number, or a detached tensor of shape (). Only a mean is weighted."""
        self.weight += weight
        if isinstance(value, Tensor):
            self._add_tensor(value, weight)
        elif isinstance(self.total, Tensor):
            self._add_in_place(self.total, value, weight)
        elif self.reduce_fx == "mean":
            self.total += value * weight
        elif self.reduce_fx == "sum":
            self.total += value
        elif math.isnan(value) or (value < self.total if self.reduce_fx == "min" else value > self.total):
            self.total = value

    def value(self) -> float | Tensor:
        """Return what the values so far come to: a number if only numbers were added, else a new tensor of shape ()."""
        if isinstance(self.total, Tensor):
            return self.finish(self.total, self.weight)
        if self.reduce_fx != "mean":
            return self.total
        return self.total / self.weight if self.weight else math.nan

    def finish(self, total: Tensor, weight: float | Tensor) -> Tensor:
        """Return the value that ``total`` and ``weight`` come to, which may be those of all ranks."""
        value = total / weight if self.reduce_fx == "mean" else total
        return value.to(self.dtype or torch.get_default_dtype(), copy=True)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything, to continue bit for bit."""
        total = self.total.clone() if isinstance(self.total, Tensor) else self.total
        return {"reduce_fx": self.reduce_fx, "total": total, "weight": self.weight, "dtype": self.dtype}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Running:
        """Return what `state_dict` described."""
        running = cls(state["reduce_fx"])
        total = state["total"]
        running.total = total.clone() if isinstance(total, Tensor) else total
        running.weight, running.dtype = state["weight"], state["dtype"]
        return running

    def _add_tensor(self, value: Tensor, weight: float) -> None:
        total = self.total
        if not isinstance(total, Tensor):
            self.dtype = torch.promote_types(value.dtype, torch.get_default_dtype())
            # A tensor that was made in inference mode could not be changed in place outside it.
            with torch.inference_mode(False):
                total = self.total = torch.full((), total, dtype=widest(value.device), device=value.device)
        elif total.device != value.device:
            # An accelerator is never left for the host, which would have to wait for it.
            if total.device.type == "cpu":
                total = self.total = total.to(value.device, widest(value.device))
            else:
                value = value.to(total.device)
        self._add_in_place(total, value, weight)

    def _add_in_place(self, total: Tensor, value: float | Tensor, weight: float) -> None:
        if self.reduce_fx == "mean":
            total.add_(value, alpha=weight)
        elif self.reduce_fx == "sum":
            total.add_(value)
        elif self.reduce_fx == "min":
            total.clamp_(max=value)
        else:
            total.clamp_(min=value)


def widest(device: torch.device) -> torch.dtype:
    """Return the widest floating-point dtype of ``device``."""
    return torch.float32 if device.type == "mps" else torch.float64
