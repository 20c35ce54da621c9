"""A checksum of data, from a few of their values: whether the samples are those that they were."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

from trainkit.data.combined import is_sliceable
from trainkit.data.tensors import TensorLoader

LOOKED_AT = 8
"""How many items of a sequence, and rows of a tensor, are looked at: the first, the last and some in between."""

NUMBERS = 64
"""How many numbers are looked at in these rows."""


def content_of(loader: Any) -> int | None:
    """Return a checksum of the data of ``loader``; None where they are not in memory for all to see.

    Only the length and a few samples are looked at, and no code of the user's is called: it could draw random numbers,
    count, or open files that workers are to open.
    """
    data = loader.dataset if isinstance(loader, DataLoader) else loader
    return checksum(data) if _is_in_memory(data) else None


def checksum(data: Any, start: int = 0) -> int:
    """Return a checksum of a batch or of samples: tensors, arrays and plain values in lists, tuples and dicts.

    Args:
        data: What to look at; objects of other types are all alike.
        start: The checksum of what came before.
    """
    if isinstance(data, TensorLoader | TensorDataset):
        return checksum(data.tensors, start)
    if isinstance(data, Subset):
        return checksum([data.dataset[index] for index in _some(data.indices)], checksum(list(data.indices), start))
    if isinstance(data, ConcatDataset):
        return checksum(data.datasets, start)
    if isinstance(data, dict):
        return checksum(list(data.values()), start)
    if isinstance(data, list | tuple):
        start = _add(start, len(data))
        for item in _some(data):
            start = checksum(item, start)
        return start
    if isinstance(data, Tensor):
        return _of_tensor(data, start)
    if isinstance(data, np.ndarray) and data.dtype.kind in "biufc":
        return _of_array(data, start)
    return _add(start, data if isinstance(data, bool | int | float | str | bytes | None) else type(data).__name__)


def _is_in_memory(data: Any) -> bool:
    """Return whether samples can be looked at without running code of the user's, by the exact types."""
    if type(data) is Subset:
        return _is_in_memory(data.dataset)
    if type(data) is ConcatDataset:
        return all(map(_is_in_memory, data.datasets))
    return type(data) in (TensorDataset, Tensor) or isinstance(data, TensorLoader) or is_sliceable(data)


def _of_array(array: np.ndarray[Any, Any], start: int) -> int:
    start = _add(start, (array.shape, str(array.dtype)))
    # Not by way of a tensor, which takes neither negative strides nor the byte order of another machine.
    for row in _some(array) if array.ndim else [array]:
        start = zlib.crc32(np.ascontiguousarray(row).ravel()[: NUMBERS // LOOKED_AT].tobytes(), start)
    return start


def _of_tensor(tensor: Tensor, start: int) -> int:
    if tensor.layout is not torch.strided or tensor.is_nested:  # which may have no shape
        return _add(start, f"{tensor.layout} {tensor.dtype}")
    start = _add(start, (tuple(tensor.shape), str(tensor.dtype)))
    if tensor.is_meta or tensor.is_quantized or tensor.numel() == 0:
        return start
    tensor = tensor.detach()
    # Rows first: flattening the whole of a tensor may copy it.
    rows = torch.stack([*_some(tensor)]).flatten() if tensor.dim() else tensor.reshape(1)
    numbers = rows[:: max(1, len(rows) // NUMBERS)].contiguous()
    return zlib.crc32(numbers.view(torch.uint8).cpu().numpy().tobytes(), start)


def _some(items: Any) -> list[Any]:
    """Return the first and the last of ``items``, and some in between."""
    last = len(items) - 1
    places = sorted({last * each // (LOOKED_AT - 1) for each in range(LOOKED_AT)})
    return [items[place] for place in places] if last >= 0 else []


def _add(start: int, value: Any) -> int:
    return zlib.crc32(repr(value).encode(), start)
