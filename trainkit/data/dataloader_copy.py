"""A copy of a DataLoader with another sampler, and questions about the samplers that it has."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

_OF_TORCH = (DistributedSampler, RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler)


def with_sampler(
    loader: DataLoader[Any], sampler: Iterable[Any], batch_size: int | None = None, drop_last: bool | None = None
) -> DataLoader[Any]:
    """Return a copy of ``loader`` that takes its samples in the order of ``sampler``.

    Args:
        loader: The loader.
        sampler: Gives indices.
        batch_size: Samples of a batch; by default as many as before.
        drop_last: Whether a last batch of fewer is left out; by default as before.
    """
    if loader.batch_sampler is None:  # batch_size=None: each index is a batch of its own
        return _copy_with(loader, sampler=sampler)
    old: Any = loader.batch_sampler
    size, drops = batch_size or old.batch_size, old.drop_last if drop_last is None else drop_last
    shown = {"batch_size": batch_size} if batch_size else {}
    # The DataLoader asks the batch sampler alone; `loader.sampler` is set for users who look at it.
    return _copy_with(loader, sampler=sampler, batch_sampler=BatchSampler(sampler, size, drops), **shown)


def with_batch_sampler(loader: DataLoader[Any], batch_sampler: Iterable[list[Any]]) -> DataLoader[Any]:
    """Return a copy of ``loader`` that takes its batches from ``batch_sampler``."""
    return _copy_with(loader, batch_sampler=batch_sampler)


def with_dataset(loader: DataLoader[Any], dataset: IterableDataset[Any]) -> DataLoader[Any]:
    """Return a copy of ``loader`` that takes its samples from ``dataset``, of the same kind as its own."""
    return _copy_with(loader, dataset=dataset)


def keeping_last(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Return a copy of ``loader``, whose batches are torch's own, that gives a last batch of fewer samples too."""
    if loader.batch_sampler is None:
        return loader
    batch_sampler = BatchSampler(index_sampler(loader), loader.batch_sampler.batch_size, drop_last=False)  # type: ignore[attr-defined]
    return _copy_with(loader, batch_sampler=batch_sampler, drop_last=False)


def is_map_style(loader: Any) -> bool:
    """Return whether ``loader`` is a DataLoader that fetches samples by index, so that it has a sampler to replace."""
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


def has_own_batches(loader: DataLoader[Any]) -> bool:
    """Return whether the user's own batch sampler decides which samples make a batch."""
    # By the exact type: a subclass of BatchSampler may have an order of its own, which a new BatchSampler would lose.
    return loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler


def is_of_torch(sampler: Any) -> bool:
    """Return whether ``sampler`` is one of torch's own, whose lengths are true."""
    # By the exact type: a subclass may give what it likes.
    return type(sampler) in _OF_TORCH


def index_sampler(loader: DataLoader[Any]) -> Iterable[Any]:
    """Return what gives the order of the samples of ``loader``, unless the user's own batch sampler does."""
    # Not loader.sampler: with DataLoader(batch_sampler=BatchSampler(...)) that is torch's default, which nobody asks.
    return loader.sampler if loader.batch_sampler is None else loader.batch_sampler.sampler  # type: ignore[attr-defined]


def samplers_of(loader: Any) -> list[Any]:
    """Return the sampler, the batch sampler and the latter's sampler, as far as ``loader`` has them; none twice."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    found = (getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    return list({id(sampler): sampler for sampler in found if sampler is not None}.values())


def _copy_with(loader: DataLoader[Any], **changed: Iterable[Any] | Sampler[Any] | int) -> DataLoader[Any]:
    # A shallow copy survives subclasses with constructors of their own. DataLoader.__setattr__ forbids to change these
    # attributes, as an iterator with persistent workers may be using them; the copy starts without one.
    clone = copy.copy(loader)
    clone.__dict__.update(changed, _iterator=None)
    return clone
