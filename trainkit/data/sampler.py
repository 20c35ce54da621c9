"""Dealing the samples of a loader to several ranks.

Any sampler is dealt, by running it on every rank with the same seed. ``docs/design/0006-samplers-and-seeds.md`` tells
why torch's ``DistributedSampler`` would not do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from itertools import chain
from typing import Any, Literal

import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, Sampler

from trainkit.data.combined import CombinedLoader
from trainkit.data.dataloader_copy import (
    has_own_batches,
    index_sampler,
    is_map_style,
    samplers_of,
    with_batch_sampler,
    with_dataset,
    with_sampler,
)
from trainkit.data.sharded_iterable import ShardedIterable
from trainkit.data.tensors import TensorLoader
from trainkit.errors import DataError
from trainkit.seed import isolate_rng

Tail = Literal["pad", "drop", "keep"]
"""What becomes of a last round that has fewer items than there are ranks; see `ShardedSampler`."""


def shard(
    loader: Any, rank: int, world_size: int, *, training: bool, seed: int = 0, whole_batches: bool = False
) -> Any:
    """Return ``loader`` with the part of its samples that belongs to ``rank``.

    The order of the loader's own sampler is dealt round-robin, so that what all ranks have consumed together is a
    prefix of it, whatever their number. A sequential loader stays sequential. The loader of a user's own batch sampler
    is dealt in whole batches, and a `ShardedIterable` item by item. Other loaders without a sampler (iterable datasets,
    lists) and those that have a ``DistributedSampler`` are returned as they are.

    Args:
        loader: Any loader; in a `CombinedLoader` each one is dealt.
        rank: This process.
        world_size: How many there are.
        training: Whether all ranks need equally many samples: some are then repeated, or, with ``drop_last``, dropped.
            Otherwise every sample comes exactly once.
        seed: The seed of the shuffling, equal on all ranks.
        whole_batches: Whether batches are dealt rather than samples, each made of the same samples as with one rank.

    Raises:
        DataError: If the whole loader is empty.
    """
    if isinstance(loader, CombinedLoader):
        return loader.map(
            lambda inner: shard(inner, rank, world_size, training=training, seed=seed, whole_batches=whole_batches)
        )
    if isinstance(loader, ShardedIterable):
        return loader.part(rank, world_size, training=training)
    if isinstance(loader, DataLoader) and isinstance(loader.dataset, ShardedIterable):
        return with_dataset(loader, loader.dataset.part(rank, world_size, training=training))
    if not (is_map_style(loader) or isinstance(loader, TensorLoader)):
        return loader
    # Dealt already, by the user or by an earlier call. Dealing twice would leave each rank a part of its part.
    if is_dealt(loader):
        return loader
    # In training a rank with one batch more than the others would wait for them in its all-reduce for ever. Evaluation
    # reduces once at its end, so there every sample counts exactly once.
    tail: Tail = "keep" if not training else "drop" if _drops_last(loader) else "pad"
    if whole_batches and isinstance(loader, TensorLoader):
        batches = BatchSampler(loader.sampler, loader.batch_size, loader.drop_last)
        return loader.with_sampler(_IndicesOfBatches(batches, rank, world_size, tail, seed))
    if isinstance(loader, TensorLoader):
        return loader.with_sampler(ShardedSampler(loader.sampler, rank, world_size, tail, seed))
    if has_own_batches(loader) or (whole_batches and loader.batch_sampler is not None):
        return with_batch_sampler(loader, ShardedSampler(loader.batch_sampler, rank, world_size, tail, seed))
    return with_sampler(loader, ShardedSampler(index_sampler(loader), rank, world_size, tail, seed))


def is_shard(loader: Any) -> bool:
    """Return whether ``loader`` was made by `shard`. Such a part may be empty although the whole loader is not."""
    return bool(_shards_of(loader))


def is_dealt(loader: Any) -> bool:
    """Return whether ``loader`` gives the part of one rank, by `shard` or by a sampler of torch."""
    if isinstance(getattr(loader, "dataset", loader), ShardedIterable):
        return True
    return any(isinstance(sampler, DistributedSampler | ShardedSampler) for sampler in samplers_of(loader))


def is_part_for_evaluation(loader: Any) -> bool:
    """Return whether ``loader`` was made by `shard` such that each sample is on one rank only."""
    return any(sampler.tail == "keep" for sampler in _shards_of(loader))


def whole_length(loader: Any) -> int:
    """Return how many batches a loader that was made by `shard` had before."""
    return _length_as(loader, rank=0, world_size=1)


def largest_part(loader: Any) -> int:
    """Return how many batches rank 0 has of a loader that was made by `shard`: no rank has more, and some one less."""
    return _length_as(loader, rank=0)


def num_parts(loader: Any) -> int:
    """Return to how many ranks `shard` has dealt ``loader``; 1 for one that it has not."""
    return max((sampler.world_size for sampler in _shards_of(loader)), default=1)


def own_part(loader: Any, count: int) -> int:
    """Return how many batches of this rank have the samples in the first ``count`` batches of all.

    Where samples are dealt, ranks have equally many, and together perhaps some more samples.
    """
    sampler = _shards_of(loader)[0]
    if _deals_samples(loader):
        return math.ceil(count / sampler.world_size)
    return len(range(sampler.rank, count, sampler.world_size))


def has_equal_parts(loader: Any) -> bool:
    """Return whether each rank has as many samples in a batch of ``loader`` as the others in theirs."""
    shards = _shards_of(loader)
    return len(shards) == 1 and shards[0].tail != "keep" and _deals_samples(loader)


def _deals_samples(loader: Any) -> bool:
    """Return whether `shard` deals the samples of ``loader``, and not whole batches."""
    by_sample = isinstance(getattr(loader, "batch_sampler", None), BatchSampler) or type(loader) is TensorLoader
    return by_sample and not isinstance(_shards_of(loader)[0], _IndicesOfBatches)


def _length_as(loader: Any, rank: int, world_size: int | None = None) -> int:
    """Return how many batches ``loader`` would have on another rank."""
    shards = _shards_of(loader)
    places = [(sampler.rank, sampler.world_size) for sampler in shards]
    for sampler in shards:
        sampler.rank, sampler.world_size = rank, world_size or sampler.world_size
    try:
        return len(loader)
    finally:
        for sampler, place in zip(shards, places, strict=True):
            sampler.rank, sampler.world_size = place


def _shards_of(loader: Any) -> list[ShardedSampler]:
    return [sampler for sampler in samplers_of(loader) if isinstance(sampler, ShardedSampler)]


class ShardedSampler(Sampler[Any]):
    """Every ``world_size``-th item of another sampler, from item ``rank`` on.

    Each rank runs the whole sampler, with the global generators seeded alike, and takes its part. So a pass costs the
    time and memory for all items of the sampler, on every rank.

    Args:
        sampler: Gives indices, or batches of indices; has a length.
        rank: This process.
        world_size: The number of processes.
        tail: What becomes of the last round if it has fewer items than there are ranks: ``"pad"`` fills it with the
            first items, ``"drop"`` leaves it out, ``"keep"`` deals it as far as it goes.
        seed: The seed of what the sampler draws, to which the epoch is added. Equal on all ranks.

    Raises:
        DataError: If the sampler has no length, or is empty.
    """

    def __init__(self, sampler: Iterable[Any], rank: int, world_size: int, tail: Tail, seed: int = 0) -> None:
        if not isinstance(sampler, Sized):
            raise DataError(f"{type(sampler).__name__} has no length, so it cannot be dealt to {world_size} ranks.")
        if len(sampler) == 0:
            raise DataError(f"{type(sampler).__name__} is empty; there is nothing to deal to {world_size} ranks.")
        self.sampler = sampler
        self.rank = rank
        self.world_size = world_size
        self.tail = tail
        self.seed = seed
        self.epoch = 0

    def __iter__(self) -> Iterator[Any]:
        with seeded(self.seed + self.epoch):
            items = self._in_rounds(list(self.sampler), self.world_size)
        # Round-robin and not in blocks: what all ranks have consumed together is then a prefix of `items`, whatever
        # their number, so that a run can continue with another one.
        return iter(items[self.rank :: self.world_size])

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.world_size)
        if self.tail == "pad":
            return whole + (rest > 0)
        return whole + (self.tail == "keep" and self.rank < rest)

    def _in_rounds(self, items: list[Any], size: int) -> list[Any]:
        """Return ``items`` with a last round of ``size`` items that is as `tail` says."""
        if self.tail == "pad":
            # Modulo, because there may be fewer items than are missing: two samples for five ranks.
            return items + [items[index % len(items)] for index in range(-len(items) % size)]
        return items[: len(items) // size * size] if self.tail == "drop" else items

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which goes into the seed, here and in the sampler that is dealt."""
        self.epoch = epoch
        # `self.sampler` may be the user's batch sampler, around a sampler of its own.
        for sampler in (self.sampler, getattr(self.sampler, "sampler", None)):
            set_epoch = getattr(sampler, "set_epoch", None)
            if callable(set_epoch):
                set_epoch(epoch)


class _IndicesOfBatches(ShardedSampler):
    """The indices in every ``world_size``-th batch of a batch sampler, of which only the last may be short."""

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(super().__iter__())

    def __len__(self) -> int:
        whole: Any = self.sampler
        missing = len(whole) * whole.batch_size - len(whole.sampler)
        has_last = self.rank == (len(whole) - 1) % self.world_size
        return super().__len__() * int(whole.batch_size) - (missing if has_last else 0)


def _drops_last(loader: DataLoader[Any] | TensorLoader) -> bool:
    if isinstance(loader, TensorLoader):
        return loader.drop_last
    return bool(getattr(loader.batch_sampler, "drop_last", False)) and not has_own_batches(loader)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's generators inside, and restore them after: elsewhere each rank draws numbers of its own."""
    import numpy as np  # torch works without it; samplers seldom do

    with isolate_rng():
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which would reseed the accelerators too
        random.seed(seed)
        np.random.seed(seed % 2**32)  # seed plus epoch may be larger than numpy takes
        yield
