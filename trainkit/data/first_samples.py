"""The first samples of a loader: those that another number of ranks has evaluated in a limited number of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from itertools import islice
from typing import Any

from torch.utils.data import Sampler

from trainkit.data.dataloader_copy import (
    has_own_batches,
    index_sampler,
    is_map_style,
    with_batch_sampler,
    with_sampler,
)
from trainkit.data.loaders import LimitedLoader
from trainkit.data.resume.stateful_cursor import has_state
from trainkit.data.sampler import whole_length
from trainkit.data.tensors import TensorLoader


class FirstItems(Sampler[Any]):
    """The first items of another sampler.

    Args:
        sampler: Gives indices, or batches of indices.
        count: How many at most.
    """

    def __init__(self, sampler: Any, count: int) -> None:
        self.sampler = sampler
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.sampler), self.count)

    def __len__(self) -> int:
        return min(len(self.sampler), self.count)


def count_items(loader: LimitedLoader, limit: int | float, ranks: int) -> int | None:
    """Return how many items of the sampler of a loader all ranks take together; None if that is not known.

    Args:
        loader: The part of rank 0, with its limit.
        limit: The limit: a number of batches of each rank, or a share of all.
        ranks: How many there are.
    """
    part = loader.loader
    if (limit == 1.0 and isinstance(limit, float)) or loader.num_batches is None or has_state(part):
        return None
    if isinstance(part, TensorLoader) or (is_map_style(part) and not has_own_batches(part)):
        return loader.num_batches * int(part.batch_size or 1) * ranks
    if not is_map_style(part):
        return None
    return limit * ranks if isinstance(limit, int) else int(whole_length(part) * limit)


def with_first(loader: Any, count: int | None) -> Any:
    """Return ``loader``, as the user gave it, with the first ``count`` items of its sampler; all where that is None."""
    if count is None or not (is_map_style(loader) or isinstance(loader, TensorLoader)):
        return loader
    if isinstance(loader, TensorLoader):
        return loader.with_sampler(FirstItems(loader.sampler, count))
    if has_own_batches(loader):
        return with_batch_sampler(loader, FirstItems(loader.batch_sampler, count))
    sampler = index_sampler(loader)
    return with_sampler(loader, FirstItems(sampler, count)) if isinstance(sampler, Sized) else loader
