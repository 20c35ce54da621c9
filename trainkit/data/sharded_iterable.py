"""A stream of samples of which each rank, and each worker of a loader, takes its own part."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Self

from torch.utils.data import IterableDataset, get_worker_info

from trainkit.checks import function
from trainkit.errors import DataError


class ShardedIterable(IterableDataset[Any]):
    """Deals the items of an iterable to ranks, and to the workers of each, in turn.

    An ``IterableDataset`` has no sampler that could be dealt, so without this every rank, and every worker, goes
    through all of it. Each of them still reads all items to find its own; where that costs much, the items are names of
    files or the like, and ``read`` opens those that are its own.

    The items have to come in the same order everywhere. To shuffle them, draw from a ``torch.Generator`` that is seeded
    alike on all ranks, and not from the global one, which differs.

    Example::

        loader = DataLoader(ShardedIterable(stream), batch_size=32)
        loader = DataLoader(ShardedIterable(paths, read=lines_of), batch_size=32, num_workers=4)

    In training a last round that has no item for everybody is left out, as ranks need equally many; in evaluation
    every item is there once. What ``read`` makes of an item may be more for one rank than for another.

    Args:
        items: What to deal. It is iterated over anew for each pass.
        read: Makes samples of an item: a function that returns an iterable. By default each item is a sample.

    Raises:
        DataError: If ``items`` cannot be iterated over again and again.
    """

    def __init__(self, items: Iterable[Any], read: Callable[[Any], Iterable[Any]] | None = None) -> None:
        if isinstance(items, Iterator) or not isinstance(items, Iterable):
            raise DataError(
                f"ShardedIterable: items is a {type(items).__name__}, which cannot be gone through again in the next "
                "epoch. Pass a list, a data set, or another object whose __iter__ begins anew."
            )
        function("ShardedIterable", optional=True, read=read)
        self.items = items
        self.read = read
        self._rank, self._world_size = 0, 1
        self._keeps_tail = True

    def __iter__(self) -> Iterator[Any]:
        workers = get_worker_info()
        worker, num_workers = (0, 1) if workers is None else (workers.id, workers.num_workers)
        # Ranks first: without workers what all of them have taken is then a beginning of the items.
        place, count = worker * self._world_size + self._rank, self._world_size * num_workers
        mine = self._with_tail(place, count) if self._keeps_tail else self._whole_rounds(place, count)
        return mine if self.read is None else chain.from_iterable(map(self.read, mine))

    def part(self, rank: int, world_size: int, *, training: bool) -> Self:
        """Return a copy that gives what belongs to ``rank`` of ``world_size``. The Trainer calls this."""
        clone = copy.copy(self)
        clone._rank, clone._world_size = rank, world_size
        clone._keeps_tail = not training
        return clone

    def _with_tail(self, place: int, count: int) -> Iterator[Any]:
        return islice(self.items, place, None, count)

    def _whole_rounds(self, place: int, count: int) -> Iterator[Any]:
        items = iter(self.items)
        while len(round_ := tuple(islice(items, count))) == count:
            yield round_[place]
