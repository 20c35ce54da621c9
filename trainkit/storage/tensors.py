"""Whether a tensor that was read from a file can take the place of one that a program would make itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainkit.storage.schema import Scalar, mismatch
from trainkit.storage.sharded.dtensors import is_dtensor


def misformed(saved: Any, shape: tuple[int, ...] | None, dtype: torch.dtype, place: str) -> str:
    """Return what is wrong with the form of ``saved``; empty if it is as expected. Its numbers are not looked at.

    Args:
        saved: What was read.
        shape: The shape that is expected; None if any will do.
        dtype: Of which kind of numbers: one of another width will do.
        place: Where ``saved`` is.
    """
    if wrong := mismatch(saved, Tensor, place) or other_kind(saved, dtype, place):
        return wrong
    if shape is not None and saved.shape != shape:
        return f"{place} has the shape {tuple(saved.shape)}, and {tuple(shape)} was expected"
    return f"{place} repeats some numbers in memory, and cannot be written to" if _overlaps(saved) else ""


def wrong_number(saved: Any, place: str) -> str:
    """Return what is wrong with ``saved``; empty if it is a number, or a tensor of one without dimensions."""
    if not isinstance(saved, Tensor):
        return mismatch(saved, Scalar, place)
    whole = not saved.is_quantized and kind_of(saved.dtype) == "whole"
    return misformed(saved, (), torch.int64 if whole else torch.float32, place)


def other_kind(saved: Tensor, dtype: torch.dtype, place: str) -> str:
    """Return what is wrong with a tensor; empty if it is dense, and of the kind of numbers of ``dtype``."""
    if saved.layout is not torch.strided or saved.is_nested or saved.is_quantized:
        kind = "quantized" if saved.is_quantized else "nested" if saved.is_nested else str(saved.layout)
        return f"{place} is {kind}, and a dense tensor was expected"
    if kind_of(saved.dtype) != kind_of(dtype):
        return f"{place} has the dtype {saved.dtype}, and {dtype} was expected"
    return ""


def kind_of(dtype: torch.dtype) -> str:
    """Return what numbers of a dtype are: real, complex, whole, or truth values."""
    if dtype is torch.bool:
        return "truth values"
    return "complex" if dtype.is_complex else "real" if dtype.is_floating_point else "whole"


def bounds(value: Tensor | float) -> tuple[float, float]:
    """Return the least and the largest number in ``value``, both NaN if one is; 0 if there is none.

    Of a tensor that is split over ranks it is those of this rank's part.
    """
    if not isinstance(value, Tensor):
        return float(value), float(value)
    if is_dtensor(value):
        value = value.to_local()
    numbers = torch.view_as_real(value.detach().resolve_conj()) if value.is_complex() else value.detach()
    if not numbers.numel():
        return 0.0, 0.0
    least, largest = torch.aminmax(numbers)
    return float(least), float(largest)


def _overlaps(tensor: Tensor) -> bool:
    """Whether two numbers of a tensor may be one in memory, as where it was expanded."""
    reach = 0
    for stride, size in sorted((stride, size) for size, stride in zip(tensor.shape, tensor.stride(), strict=True)):
        if size > 1:
            if stride <= reach:
                return True
            reach += stride * (size - 1)
    return False
