"""Dealing the samples of a loader to several ranks."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader, DistributedSampler, Sampler

from trainkit.data.combined import CombinedLoader
from trainkit.data.dataloader_copy import (
    has_own_batches,
    index_sampler,
    is_map_style,
    samplers_of,
    with_batch_sampler,
    with_sampler,
)
from trainkit.data.tensors import TensorLoader
from trainkit.errors import DataError
from trainkit.seed import isolate_rng

Tail = Literal["pad", "drop", "keep"]


def shard(loader: Any, rank: int, world_size: int, *, training: bool, seed: int = 0) -> Any:
    """Return ``loader`` with the part of its samples that belongs to ``rank``.

    The order of the loader's own sampler is dealt round-robin, so that what all ranks have consumed together is a
    prefix of it, whatever their number. A sequential loader stays sequential. The loader of a user's own batch sampler
    is dealt in whole batches. Loaders without a sampler (iterable datasets, lists) and those that have a
    ``DistributedSampler`` are returned as they are.

    Args:
        loader: Any loader; in a `CombinedLoader` each one is dealt.
        rank: This process.
        world_size: How many there are.
        training: Whether all ranks need equally many samples: some are then repeated, or, with ``drop_last``, dropped.
            Otherwise every sample comes exactly once.
        seed: For the shuffling. Equal on all ranks.

    Raises:
        DataError: If the whole loader is empty.
    """
    if isinstance(loader, CombinedLoader):
        return loader.map(lambda inner: shard(inner, rank, world_size, training=training, seed=seed))
    if not (is_map_style(loader) or isinstance(loader, TensorLoader)):
        return loader
    if any(isinstance(sampler, DistributedSampler | ShardedSampler) for sampler in samplers_of(loader)):
        return loader
    tail: Tail = "keep" if not training else "drop" if _drops_last(loader) else "pad"
    if isinstance(loader, TensorLoader):
        return loader.with_sampler(ShardedSampler(loader.sampler, rank, world_size, tail, seed))
    if has_own_batches(loader):
        return with_batch_sampler(loader, ShardedSampler(loader.batch_sampler, rank, world_size, tail, seed))
    return with_sampler(loader, ShardedSampler(index_sampler(loader), rank, world_size, tail, seed))


def is_shard(loader: Any) -> bool:
    """Return whether ``loader`` was dealt by `shard`; such a part may be empty although the whole is not."""
    return any(isinstance(sampler, ShardedSampler) for sampler in samplers_of(loader))


class ShardedSampler(Sampler[Any]):
    """Every ``world_size``-th item of another sampler, from item ``rank`` on.

    Each rank runs the whole sampler, with generators seeded alike, and takes its part.

    Args:
        sampler: Gives indices, or batches of indices; has a length.
        rank: This process.
        world_size: How many there are.
        tail: What becomes of the last round if it is short: ``"pad"`` fills it with the first items, ``"drop"`` leaves
            it out, ``"keep"`` deals it as far as it goes.
        seed: For what the sampler draws; with the epoch added to it. Equal on all ranks.
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
        with _seeded(self.seed + self.epoch):
            items = list(self.sampler)
        if self.tail == "pad":
            items += [items[index % len(items)] for index in range(-len(items) % self.world_size)]
        elif self.tail == "drop":
            items = items[: len(items) // self.world_size * self.world_size]
        return iter(items[self.rank :: self.world_size])

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.world_size)
        if self.tail == "pad":
            return whole + (rest > 0)
        return whole + (self.tail == "keep" and self.rank < rest)

    def set_epoch(self, epoch: int) -> None:
        """Shuffle differently from now on; also tells the sampler underneath."""
        self.epoch = epoch
        for sampler in (self.sampler, getattr(self.sampler, "sampler", None)):
            set_epoch = getattr(sampler, "set_epoch", None)
            if callable(set_epoch):
                set_epoch(epoch)


def _drops_last(loader: DataLoader[Any] | TensorLoader) -> bool:
    if isinstance(loader, TensorLoader):
        return loader.drop_last
    return bool(getattr(loader.batch_sampler, "drop_last", False)) and not has_own_batches(loader)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the generators that samplers draw from, and put them back: ranks must agree here and nowhere else."""
    import numpy as np  # torch works without it; samplers seldom do

    with isolate_rng():
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which would reseed the accelerators too
        random.seed(seed)
        np.random.seed(seed % 2**32)
        yield
