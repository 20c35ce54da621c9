"""Dealing the batches of a run to another number of ranks than it began with: each global batch keeps its samples.

A *global batch* is what all ranks train on at a time. A run that began on 2 ranks with batches of 6 has global batches
of 12 samples. On 3 ranks each takes 4 of them, on 5 ranks some 3 and some 2. Design: docs/design/0017-elastic.md.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, DistributedSampler

from trainkit.data.dataloader_copy import has_own_batches, index_sampler, is_map_style, with_sampler
from trainkit.data.resume.index_stream import chained
from trainkit.data.resume.stateful_cursor import has_state
from trainkit.data.sampler import ShardedSampler, Tail, seeded
from trainkit.data.tensors import TensorLoader


@dataclass(frozen=True, slots=True)
class GlobalBatch:
    """What a global batch is made of, as the run has begun.

    Attributes:
        ranks: On how many ranks it began.
        size: Samples in a batch of each of them.
    """

    ranks: int
    size: int

    @property
    def samples(self) -> int:
        """Samples of all ranks."""
        return self.ranks * self.size


def why_not(loader: Any) -> str:
    """Return why the batches of ``loader``, as the user gave it, cannot be dealt anew; empty if they can be."""
    if has_state(loader):
        return f"a {type(loader).__name__} keeps its own place, which is that of one rank"
    if isinstance(loader, TensorLoader):
        return ""
    if not is_map_style(loader):
        return f"nothing in a {type(getattr(loader, 'dataset', loader)).__name__} goes by an index"
    if has_own_batches(loader):
        return f"{type(loader.batch_sampler).__name__} makes whole batches, which are not torn apart"
    if loader.batch_sampler is None:
        return "with batch_size=None a sample is a batch of its own"
    sampler = index_sampler(loader)
    if isinstance(sampler, DistributedSampler) and type(sampler) is not DistributedSampler:
        return f"{type(sampler).__name__} deals its samples to ranks in a way of its own"
    return ""


def deal(
    loader: Any,
    rank: int,
    world_size: int,
    batch: GlobalBatch,
    seed: int,
    alike: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Any:
    """Return ``loader`` with the part of each global batch that belongs to ``rank``.

    Args:
        loader: A loader as the user gave it, of which `why_not` says nothing.
        rank: This process.
        world_size: How many there are, at most as many as a global batch has samples.
        batch: What a global batch is made of.
        seed: The seed of the shuffling, equal on all ranks.
        alike: Gives a context in which all ranks draw from the random numbers of rank 0, as one process would; for a
            run that began as one.
    """
    drops_last = loader.drop_last if isinstance(loader, TensorLoader) else loader.batch_sampler.drop_last
    order = loader.sampler if isinstance(loader, TensorLoader) else index_sampler(loader)
    # What torch's sampler leaves out, or repeats, is its own affair: also where the loader keeps a short last batch.
    drops_round = order.drop_last if isinstance(order, DistributedSampler) else drops_last
    sampler = GlobalBatchSampler(
        _whole_order(order), rank, world_size, batch, "drop" if drops_round else "pad", drops_last, seed, alike
    )
    if isinstance(loader, TensorLoader):
        return loader.with_sampler(sampler, batch_size=sampler.own_size, drop_last=False)
    return with_sampler(loader, sampler, batch_size=sampler.own_size, drop_last=False)


def sampler_of(loader: Any) -> GlobalBatchSampler | None:
    """Return the sampler that `deal` has given to ``loader``; None if it has not."""
    sampler = loader.sampler if isinstance(loader, DataLoader | TensorLoader) else None
    return sampler if isinstance(sampler, GlobalBatchSampler) else None


class GlobalBatchSampler(ShardedSampler):
    """The indices of one rank's shares of all global batches, one share behind the other.

    Every ``world_size``-th sample of a global batch is of one share, from that of number ``rank`` on. All shares of a
    rank but the last have one size. A rank without a share in the last global batch has one sample of it all the same,
    so that all ranks make equally many steps; `weight` is 0 there.

    Args:
        sampler: Gives the order of all samples.
        rank: This process.
        world_size: The number of processes.
        batch: What a global batch is made of.
        tail: What became of the last round of samples on the ranks with which the run began.
        drops_last: Whether a last global batch of fewer samples is left out.
        seed: The seed of what the sampler draws, to which the epoch is added. Equal on all ranks.
        alike: See `deal`.

    Attributes:
        own_size: Samples of this rank in a whole global batch.
    """

    def __init__(
        self,
        sampler: Iterable[Any],
        rank: int,
        world_size: int,
        batch: GlobalBatch,
        tail: Tail,
        drops_last: bool,
        seed: int,
        alike: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__(sampler, rank, world_size, tail, seed)
        self.batch = batch
        self.drops_last = drops_last
        self.own_size = len(self._share(batch.samples))
        self._alike = alike
        self._counted: int | None = None  # samples of the newest pass
        self._items: list[Any] = []  # those of the newest pass, as long as they are to be compared

    def __iter__(self) -> Iterator[Any]:
        if self.batch.ranks == 1:
            return self._drawn_in_turn()
        with seeded(self.seed + self.epoch):
            items = list(self.sampler)
        items = self._in_rounds(items, self.batch.ranks)
        self._counted, self._items = len(items), items
        return iter([index for whole in self._batches(items) for index in self._own(whole)])

    def __len__(self) -> int:
        whole, rest = divmod(self.samples, self.batch.samples)
        own_rest = max(1, len(self._share(rest))) if rest and not self.drops_last else 0
        return whole * self.own_size + own_rest

    def weight(self, batch_idx: int) -> float:
        """Return what the mean over this rank's share counts in the mean of all ranks; 1 where shares are equal."""
        samples = self.samples if self._counted is None else self._counted
        size = min(self.batch.samples, samples - batch_idx * self.batch.samples)
        return len(self._share(size)) * self.world_size / size if size > 0 else 1.0

    @property
    def is_even(self) -> bool:
        """Whether the shares of all ranks are equal in every global batch."""
        rest = 0 if self.drops_last else self.samples % self.batch.samples
        return self.batch.samples % self.world_size == 0 and rest % self.world_size == 0

    def take_batches(self, rank: int, world_size: int, count: int) -> list[list[Any]]:
        """Return what ``rank`` of another number of ranks has in the first ``count`` batches of the newest pass.

        Once: what was drawn for that pass is forgotten then, as it may be an epoch's indices.
        """
        batches = [list(self._own(each, rank, world_size)) for each in self._batches(self._items)[:count]]
        self._items = []
        return batches

    def checksum_of(self, rank: int, world_size: int, count: int) -> int:
        """Return the checksum of these batches, as an `IndexStream` has it."""
        checksum = 0
        for batch in self.take_batches(rank, world_size, count):
            checksum = chained(checksum, batch)
        return checksum

    def checksum_of_indices(self, rank: int, world_size: int, count: int) -> int:
        """Return the checksum of the indices in these batches, as a `TensorCursor` has it."""
        import numpy as np

        indices = [index for batch in self.take_batches(rank, world_size, count) for index in batch]
        return zlib.crc32(np.asarray(indices, dtype=np.int64).data)

    @property
    def samples(self) -> int:
        """How many samples an epoch has, on all ranks with which the run began."""
        samples, ranks = len(self.sampler), self.batch.ranks
        return samples // ranks * ranks if self.tail == "drop" else -(-samples // ranks) * ranks

    def _drawn_in_turn(self) -> Iterator[Any]:
        """Return this rank's indices as one process draws them: from the global generators, a batch at a time."""
        size = self.batch.samples
        self._items = []
        # Most draw their order here; what a generator of the user's own draws at its end is left to its end.
        with self._alike():
            order = iter(self.sampler)
            whole = list(islice(order, size))
        while len(whole) == size or (whole and not self.drops_last):
            self._items += whole
            yield from self._own(whole)
            whole = list(islice(order, size))

    def _batches(self, items: list[Any]) -> list[list[Any]]:
        size = self.batch.samples
        end = len(items) // size * size if self.drops_last else len(items)
        return [items[first : min(first + size, end)] for first in range(0, end, size)]

    def _own(self, whole: list[Any], rank: int | None = None, world_size: int | None = None) -> list[Any]:
        """Return the share of a rank in a global batch, or one sample that is not its own where there is none."""
        rank, world_size = self.rank if rank is None else rank, world_size or self.world_size
        return whole[rank::world_size] or [whole[rank % len(whole)]]

    def _share(self, samples: int) -> range:
        return range(self.rank, samples, self.world_size)


def _whole_order(sampler: Any) -> Any:
    """Return what gives the order of all samples: of torch's sampler for one rank, one that gives those of all."""
    if type(sampler) is not DistributedSampler:
        return sampler
    whole = copy.copy(sampler)
    whole.num_replicas, whole.rank, whole.drop_last = 1, 0, False
    whole.num_samples = whole.total_size = len(sampler.dataset)  # type: ignore[arg-type]  # it has asked for it
    return whole
