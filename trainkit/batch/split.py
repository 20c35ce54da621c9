"""Splitting a batch along its samples, and joining what ``training_step`` returned for the parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainkit.batch.nested import map_leaves, map_tensors
from trainkit.batch.size import find_batch_size, is_list_of_samples
from trainkit.errors import DataError
from trainkit.types import Batch


class Splitter(NamedTuple):
    """What error messages say about the part of trainkit that splits a batch.

    Attributes:
        name: What it is called, such as ``"strategy 'dp'"``.
        otherwise: What the user can do instead of yielding batches that can be split.
    """

    name: str
    otherwise: str


def count_samples(batch: Batch, who: Splitter, known: Callable[[], int | None] | None = None) -> int:
    """Return how many samples are in ``batch``; in doubt the rows of the first tensor that has a dimension 0.

    Args:
        batch: The batch.
        who: Who splits it.
        known: Tells how many samples the loader made it of; see `find_batch_size`.

    Raises:
        DataError: If no tensor has rows.
    """
    samples = find_batch_size(batch, known)
    if samples is None:
        samples = next((len(tensor) for tensor in _tensors(batch) if tensor.dim()), None)
    if samples is None:
        raise DataError(
            f"{who.name} cannot split a batch of type {type(batch).__name__}: it holds no tensor with a dimension 0 "
            f"that counts samples.\n    to do        yield tensors of shape (samples, ...), or {who.otherwise}"
        )
    return samples


def split(
    batch: Batch, size: int, who: Splitter, known: Callable[[], int | None] | None = None
) -> tuple[list[Batch], list[int]]:
    """Split ``batch`` along dimension 0 into parts of ``size`` samples; the last one may be smaller.

    Every tensor with a row per sample is split, and so is every list with an entry per sample: one without tensors
    (such as file names), or samples of different shapes. Everything else goes whole to each part.

    Args:
        batch: The batch.
        size: The samples of a part.
        who: Who splits it.
        known: Tells how many samples the loader made it of; see `find_batch_size`.

    Returns:
        The parts, views of the batch, and their sizes. There is at least one.

    Raises:
        DataError: If there is nothing to split, or an object that cannot be.
    """
    samples = count_samples(batch, who, known)
    is_column = partial(_is_column, samples=samples, batch=batch)
    parts, sizes = [], []
    # At least one part, also of a batch without samples: the step is called for every batch.
    for start in range(0, max(1, samples), size):
        rows = slice(start, min(start + size, samples))
        take = partial(_take, rows=rows, samples=samples, is_column=is_column, who=who)
        parts.append(map_leaves(take, batch, is_leaf=is_column))
        sizes.append(rows.stop - rows.start)
    return parts, sizes


def gather(outputs: Sequence[Any], samples: Sequence[int], device: torch.device, *, weighs: bool = True) -> Any:
    """Join what ``training_step`` returned for each part into what it would have returned for the whole batch.

    Losses are averaged by sample; with a ``"weight"`` beside them they are sums, and added. Of the other entries of a
    dict, tensors with a row per sample are concatenated, single numbers are averaged by sample, and the rest becomes a
    list with an entry per part. Parts that returned None are left out.

    Args:
        outputs: What ``training_step`` returned, one entry per part.
        samples: The number of samples in each part.
        device: Where tensors are joined.
        weighs: Whether a ``"weight"`` means that; False leaves it an entry like others.
    """
    # A step that returns None skips its batch, so a part that did has no share in the mean.
    kept = [(value, count) for value, count in zip(outputs, samples, strict=True) if value is not None]
    values, counts = [value for value, _ in kept], [count for _, count in kept]
    if _are_tensors(values):
        return weighted_mean(values, counts, device)
    if not all(isinstance(value, dict) for value in values):
        return values[0]  # no step may return this, and the loop says so
    # The first part decides which keys there are: all parts ran the same step.
    columns = {key: [value.get(key) for value in values] for key in (values[0] if values else ())}
    joined = {key: _join(column, counts, device) for key, column in columns.items()}
    # Not by the general rule: a loss of shape (1,) from parts of one sample each would pass for a row per sample.
    if weighs and "weight" in columns:
        joined |= {key: _sum(columns[key], device) for key in ("loss", "weight") if key in columns}
    elif _are_tensors(columns.get("loss", ())):
        joined["loss"] = weighted_mean(columns["loss"], counts, device)
    return joined or None


def _tensors(batch: Batch) -> list[Tensor]:
    """Return the tensors at any depth of ``batch``, those that `split` would split or pass on."""
    found: list[Tensor] = []

    def find(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(find, batch)
    return found


def _is_column(value: Any, samples: int, batch: Batch) -> bool:
    """Whether ``value`` is a list with one entry per sample, such as file names, or images of different sizes."""
    if not isinstance(value, list | tuple) or len(value) != samples:
        return False
    # Another one that holds tensors is walked through: each of them tells by its own rows whether it is split.
    return not _tensors(value) or is_list_of_samples(value, samples, is_top=value is batch)


def _take(leaf: Any, rows: slice, samples: int, is_column: Callable[[Any], bool], who: Splitter) -> Any:
    """Return the ``rows`` of a leaf, or all of it where it has no row per sample."""
    if isinstance(leaf, Tensor):
        return leaf[rows] if leaf.dim() and len(leaf) == samples else leaf
    if is_column(leaf):
        return leaf[rows]
    raise DataError(
        f"{who.name} cannot split a {type(leaf).__name__} in the batch: it does not say which rows it has.\n"
        f"    to do        put its tensors into the batch, or {who.otherwise}"
    )


def _join(values: Sequence[Any], counts: Sequence[int], device: torch.device) -> Any:
    """Join the values that the parts returned under one key."""
    if not _are_tensors(values):
        return list(values)
    if all(value.dim() and len(value) == count for value, count in zip(values, counts, strict=True)):
        return torch.cat([value.to(device) for value in values])
    return weighted_mean(values, counts, device) if all(value.numel() == 1 for value in values) else list(values)


def _are_tensors(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, Tensor) for value in values)


def _sum(values: Sequence[Any], device: torch.device) -> Any:
    return sum(value.to(device) if isinstance(value, Tensor) else value for value in values)


def weighted_mean(values: Sequence[Tensor], counts: Sequence[int], device: torch.device) -> Tensor:
    """Return the mean of ``values``, each weighed by the samples behind it."""
    # One part is the whole batch: no arithmetic, so that its loss stays the same bit for bit.
    if len(values) == 1:
        return values[0].to(device)
    total = max(1, sum(counts))  # parts without samples
    shares = [value.to(device) * (count / total) for value, count in zip(values, counts, strict=True)]
    return torch.stack(shares).sum(dim=0)
