"""How many samples are in a batch of any nesting."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from trainkit.types import Batch


def find_batch_size(batch: Batch) -> int | None:
    """Return the number of samples in ``batch``, or None if there is doubt.

    There is no doubt if all tensors in it that have a dimension 0 have the same number of rows. A guess would be worse
    than None: epoch means are weighted by this number, and the caller can warn and use 1.

    Args:
        batch: Tensors in lists, tuples, mappings and dataclasses, at any depth; everything else is passed over.
    """
    size: int | None = None
    for tensor in _tensors(batch):
        if tensor.ndim:  # a tensor without dimensions, such as a temperature, belongs to the whole batch
            rows = tensor.shape[0]
            if size is not None and rows != size:
                return None
            size = rows
    return size


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in ``value``."""
    # Not map_tensors(), which rebuilds what it walks through: this runs for every batch for which a mean is logged, and
    # stops at the first tensor that does not fit.
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name, None))
