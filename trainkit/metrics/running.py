"""The running reduction of one name over a phase: one number, however many batches."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from trainkit.metrics.options import ReduceFx

_START: dict[ReduceFx, float] = {"mean": 0.0, "sum": 0.0, "min": math.inf, "max": -math.inf}
# float8 only stores: torch adds and compares none of them.
_STORAGE_DTYPES = frozenset(
    dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype.itemsize == 1
)


class Running:
    """A weighted mean, a sum, a minimum or a maximum of all values so far.

    The total is a Python number until the first tensor is added. From then on it is a tensor of shape () on that
    tensor's device, which is changed in place without waiting for the device. It is float64, or float32 on mps.

    Attributes:
        reduce_fx: How values are reduced.
        total: The sum of values times weights (mean), or the sum, minimum or maximum.
        weight: The sum of all weights.
    """

    __slots__ = ("reduce_fx", "total", "weight")

    def __init__(self, reduce_fx: ReduceFx) -> None:
        self.reduce_fx: ReduceFx = reduce_fx
        # The identity of the reduction, so that a rank or a loader without values changes nothing.
        self.total: float | Tensor = _START[reduce_fx]
        self.weight = 0.0

    def add(self, value: float | Tensor, weight: float) -> None:
        """Add one value: a number, or a detached tensor of shape (). The weight matters for a mean only."""
        self.weight += weight
        if isinstance(value, Tensor):
            self._add_tensor(value, weight)
        elif isinstance(self.total, Tensor):
            self._add_in_place(self.total, value, weight)
        elif self.reduce_fx == "mean":
            self.total += value * weight
        elif self.reduce_fx == "sum":
            self.total += value
        # A NaN is never lost: min() and max() would drop it, as every comparison with it is false.
        elif math.isnan(value) or (value < self.total if self.reduce_fx == "min" else value > self.total):
            self.total = float(value)

    def value(self) -> float | Tensor:
        """Return the reduced value: a number if only numbers were added, else a new tensor as wide as the total.

        Not in the dtype of what was added: a sum of whole numbers, or one of halves, may have more digits than that.
        """
        if isinstance(self.total, Tensor):
            return self.finish(self.total, self.weight)
        if self.reduce_fx != "mean":
            return self.total
        return self.total / self.weight if self.weight else math.nan

    def finish(self, total: Tensor, weight: float | Tensor) -> Tensor:
        """Return the value of a ``total`` and a ``weight``, which may be those of all ranks."""
        # A copy, since `add` changes the total in place.
        return total / weight if self.reduce_fx == "mean" else total.clone()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all attributes, from which `from_state` continues bit for bit."""
        total = self.total.clone() if isinstance(self.total, Tensor) else self.total
        return {"reduce_fx": self.reduce_fx, "total": total, "weight": self.weight}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Running:
        """Return a running value with the state that `state_dict` returned."""
        running = cls(state["reduce_fx"])
        # A copy, since `add` changes it in place, and the state may be loaded again.
        total = state["total"]
        running.total = total.clone() if isinstance(total, Tensor) else total
        running.weight = state["weight"]
        return running

    def _add_tensor(self, value: Tensor, weight: float) -> None:
        total = self.total
        if not isinstance(total, Tensor):
            # validate() runs in inference mode, and a tensor made there could not be changed in place outside it.
            with torch.inference_mode(False):
                total = self.total = torch.full((), total, dtype=widest(value.device), device=value.device)
        elif total.device != value.device:
            # Towards the accelerator, never back: copying from it would make the host wait for it.
            if total.device.type == "cpu":
                total = self.total = total.to(value.device, widest(value.device))
            else:
                value = value.to(total.device)
        if value.dtype in _STORAGE_DTYPES:
            value = value.to(total.dtype)
        self._add_in_place(total, value, weight)

    def _add_in_place(self, total: Tensor, value: float | Tensor, weight: float) -> None:
        # In place, so that memory stays flat over any number of batches. clamp_ keeps a NaN on either side.
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
