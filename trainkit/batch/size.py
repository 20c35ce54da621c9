"""How many samples are in a batch of any nesting."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from trainkit.types import Batch

IMAGE_CHANNELS = (1, 3, 4)


def find_batch_size(batch: Batch, samples: Callable[[], int | None] | None = None) -> int | None:
    """Return the number of samples in ``batch``, or None if there is doubt.

    There is no doubt if all tensors in it that have a dimension 0 have the same number of rows, or if it is a list of
    samples, such as images of different sizes. A guess would be worse than None: epoch means are weighted by this
    number, and the caller can warn and use 1.

    Args:
        batch: Tensors in lists, tuples, mappings and dataclasses, at any depth; everything else is passed over.
        samples: Tells how many samples the loader made the batch of, None if it does not know. Asked only where the
            batch can be read in two ways: two tensors in a list may be two samples, or samples and their targets.
    """
    # This runs for every batch for which a mean is logged, and most are inputs and targets.
    if (type(batch) is tuple or type(batch) is list) and (rows := _rows_of_fields(batch)) is not None:
        return rows
    rows = _common_rows(batch)
    if not _may_hold_samples(batch, is_top=True):
        return rows
    readings = _readings(batch, is_top=True)
    if not readings:
        return None
    known = None if samples is None or readings == [rows] else samples()
    if known is None:
        return None if len(set(readings)) > 1 and _may_hold_images(batch, is_top=True) else readings[0]
    if known in readings:
        return known
    # It is no list of samples then. What looks like one has no other reading that could be trusted.
    return rows if rows == readings[0] else None


def is_list_of_samples(value: Any, samples: int, *, is_top: bool) -> bool:
    """Return whether ``value`` is a list of so many samples, and no list of tensors with a row for each of them.

    Args:
        value: A part of a batch.
        samples: The number of samples in the batch.
        is_top: Whether ``value`` is the batch itself.
    """
    if not _may_be_samples(value, is_top=is_top) or len(value) != samples:
        return False
    return samples not in (_as_fields(value) or ()) or _look_like_images(value)


def _rows_of_fields(batch: Sequence[Any]) -> int | None:
    """Return the number of rows of ``batch``, if it is tensors that have as many and cannot be samples; else None."""
    rows = kind = None
    # A tuple that is the batch itself holds inputs and targets, and so does a list of tensors of several kinds.
    cannot_be_samples = type(batch) is tuple
    for tensor in batch:
        if type(tensor) is not Tensor or not tensor.ndim or tensor.shape[0] != (rows or tensor.shape[0]):
            return None
        cannot_be_samples = cannot_be_samples or kind not in (None, (tensor.ndim, tensor.dtype))
        rows, kind = tensor.shape[0], (tensor.ndim, tensor.dtype)
    return rows if cannot_be_samples else None


def _common_rows(batch: Batch) -> int | None:
    """Return the number of rows that all tensors in ``batch`` have; None if they differ, or there is none."""
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
    if isinstance(value, Tensor):
        yield value
        return
    for item in _members(value):
        yield from _tensors(item)


def _may_hold_samples(value: Any, *, is_top: bool = False) -> bool:
    """Whether there is a list in ``value`` that may be one of samples."""
    if isinstance(value, Tensor):
        return False
    return _may_be_samples(value, is_top=is_top) or any(map(_may_hold_samples, _members(value)))


def _readings(value: Any, *, is_top: bool = False) -> list[int] | None:
    """Return what the number of samples may be, the likeliest first; None if ``value`` does not tell.

    Args:
        value: A batch or a part of one.
        is_top: Whether it is the batch itself.
    """
    if isinstance(value, Tensor):
        return [value.shape[0]] if value.ndim else None
    as_fields = _as_fields(_members(value))
    if as_fields is None or not _may_be_samples(value, is_top=is_top):
        return as_fields
    return [len(value), *as_fields] if _look_like_images(value) else [*as_fields, len(value)]


def _as_fields(members: Sequence[Any]) -> list[int] | None:
    """Return what the number of samples may be if each of ``members`` is of all samples."""
    told = [each for item in members if (each := _readings(item)) is not None]
    return [number for number in told[0] if all(number in each for each in told)] if told else None


def _may_be_samples(value: Any, *, is_top: bool) -> bool:
    """Whether ``value`` may be a list of samples: its members are of one kind."""
    # A tuple that is the batch itself holds inputs and targets.
    if not isinstance(value, list | tuple) or not value or hasattr(value, "_fields"):
        return False
    if is_top and isinstance(value, tuple):
        return False
    kind = _kind(value[0])
    return kind is not None and all(_kind(item) == kind for item in value)


def _kind(item: Any) -> Any:
    """Return what samples in one list have in common; None if ``item`` is no sample."""
    if isinstance(item, Tensor):
        return (item.ndim, item.dtype) if item.ndim else None
    if isinstance(item, Mapping):
        return (type(item), *item) if _first_tensor(item) is not None else None
    return (type(item), len(_members(item))) if _first_tensor(item) is not None else None


def _look_like_images(samples: Sequence[Any]) -> bool:
    """Whether the members of a list are, or begin with, images of different sizes."""
    shapes = _shapes(samples)
    return len(shapes) > 1 and all(len(shape) == 3 and shape[0] in IMAGE_CHANNELS for shape in shapes)


def _may_hold_images(value: Any, *, is_top: bool = False) -> bool:
    """Whether there is a list in ``value`` that may be one of images, or a batch of sequences and one of targets."""
    if _may_be_samples(value, is_top=is_top) and all(len(shape) == 3 for shape in _shapes(value)):
        return not _look_like_images(value)
    return any(map(_may_hold_images, _members(value)))


def _shapes(samples: Sequence[Any]) -> set[tuple[int, ...]]:
    """Return the shapes that the first tensors of the members of a list have."""
    return {tuple(tensor.shape) for item in samples if (tensor := _first_tensor(item)) is not None}


def _first_tensor(value: Any) -> Tensor | None:
    return next(_tensors(value), None)


def _members(value: Any) -> Sequence[Any]:
    """Return what a container holds; nothing for anything else."""
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, Mapping):
        return list(value.values())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return ()
