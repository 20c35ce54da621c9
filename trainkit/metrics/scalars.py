"""Scalar values: checking what is logged, and the one function that reads values from their device."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from trainkit.errors import MetricError
from trainkit.metrics.running import widest
from trainkit.metrics.torchmetrics import Metric, is_metric, is_metric_collection

Value: TypeAlias = float | Tensor
"""A number, or a detached tensor of shape () that is never changed in place."""

Table: TypeAlias = dict[str, Value]


class Single(float):
    """The number that a float32 tensor on the CPU held; `as_tensors` gives it as such a tensor again.

    On the CPU nothing has to be waited for, and reading takes a tenth of the time of a copy.
    """

    __slots__ = ()


def as_scalar(name: str, tensor: Tensor) -> Tensor:
    """Return ``tensor`` with shape ().

    Raises:
        MetricError: If it has not exactly one element.
    """
    if tensor.numel() != 1:
        raise MetricError(
            f"self.log({name!r}) got a tensor of shape {tuple(tensor.shape)}.\n"
            "    allowed      one element\n"
            "    to do        reduce it first, such as value.mean(), or log each element under a name of its own"
        )
    return tensor.reshape(())


def refuse_complex(name: str, value: Any) -> None:
    """Raise `MetricError` if ``value`` is a complex tensor: neither rows nor comparisons have a place for one."""
    if isinstance(value, Tensor) and value.is_complex():
        raise MetricError(
            f"self.log({name!r}) got a complex tensor.\n"
            "    allowed      a real number\n"
            "    to do        log a part of it, such as value.abs(), value.real or value.imag"
        )


def is_number(value: Any) -> bool:
    """Whether ``value``, which is no tensor, is a real number, of Python or numpy."""
    # numpy's scalars are numbers.Real, all but its truth values.
    return isinstance(value, numbers.Real) or (getattr(value, "dtype", None) == "bool" and value.ndim == 0)


def as_number(name: str, value: Any) -> float:
    """Return ``value``, which is no tensor, as a float.

    Raises:
        MetricError: If it is no number.
    """
    if is_number(value):
        return float(value)
    advice = "log a number that stands for it"
    if isinstance(value, Mapping) or is_metric_collection(value):
        advice = "use self.log_dict(...), which logs every entry under its own name"
    elif is_metric(value):
        advice = f"use another name: {name!r} was logged as a number or a tensor before"
    raise MetricError(
        f"self.log({name!r}) got a {type(value).__name__}.\n"
        "    allowed      a number, a tensor with one element, or a torchmetrics Metric\n"
        f"    to do        {advice}"
    )


def as_weight(name: str, batch_size: Any) -> float:
    """Return the argument ``batch_size`` of ``log`` as a weight. A tensor is read, which waits for its device.

    Raises:
        MetricError: If it is no finite number of at least 0.
    """
    if isinstance(batch_size, numbers.Real) or (isinstance(batch_size, Tensor) and batch_size.numel() == 1):
        weight = float(batch_size)
        if 0 <= weight < math.inf:
            return weight
    raise MetricError(f"self.log({name!r}, batch_size={batch_size!r}): batch_size is a number, 0 or more.")


def as_step(value: float) -> int:
    """Return a logged ``step``, at which a row is to stand, as a whole number.

    Raises:
        MetricError: If it is none.
    """
    if not float(value).is_integer():
        raise MetricError(
            f"self.log('step', {value}): a metric of this name is where the row stands on the x-axis of loggers.\n"
            "    allowed      a whole number\n"
            "    to do        use another name, if it is a value like others"
        )
    return int(value)


def metric_value(name: str, metric: Metric, value: Any) -> Value:
    """Return a copy of ``value``, which ``metric`` computed, as a number or a tensor of shape ().

    Raises:
        MetricError: If it has not exactly one element.
    """
    refuse_complex(name, value)
    if not isinstance(value, Tensor) and is_number(value):
        return float(value)
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
        raise MetricError(
            f"self.log({name!r}) got a torchmetrics {type(metric).__name__} whose value has {found}.\n"
            "    allowed      a value with one element\n"
            "    to do        log the parts of metric.compute() that you want, each under its own name"
        )
    # A copy, because a metric may return a state that later updates change in place; and a normal tensor, because
    # a tensor made in inference mode could not be used with autograd by whoever reads it later.
    with torch.inference_mode(False):
        return value.detach().reshape(()).clone()


def as_tensors(table: Table) -> dict[str, Tensor]:
    """Return the values of ``table`` as tensors of shape (), on their devices. Nothing is read."""
    return {name: value if isinstance(value, Tensor) else _as_tensor(value) for name, value in table.items()}


def read(table: Table) -> dict[str, float]:
    """Return the values of ``table`` as numbers. Waits once for each device that holds any."""
    # One stacked tensor per device instead of one read per name: each read would wait for the device again.
    by_device: dict[torch.device, dict[str, Tensor]] = {}
    for name, value in table.items():
        if isinstance(value, Tensor):
            # stack needs one dtype, and the widest one loses nothing.
            by_device.setdefault(value.device, {})[name] = value.to(widest(value.device))
    numbers_of = {name: float(value) for name, value in table.items() if not isinstance(value, Tensor)}
    for tensors in by_device.values():
        numbers_of |= zip(tensors, torch.stack(list(tensors.values())).tolist(), strict=True)
    # In the order in which the names were logged, which is that of columns in a file.
    return {name: numbers_of[name] for name in table}


def storable(table: Table) -> Table:
    """Return a copy of ``table`` for a checkpoint, which has no kinds of numbers of its own."""
    return {name: _as_tensor(value) if type(value) is Single else value for name, value in table.items()}


def _as_tensor(number: float) -> Tensor:
    # Numbers are doubles in Python; torch's default dtype, float32 or half, would round them.
    return torch.tensor(number, dtype=torch.float32 if type(number) is Single else torch.float64)
