"""Which updates a fit has yet to make, as far as that is known before it makes them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from trainkit.data.batch_sizes import BatchSizes
from trainkit.loops.accumulation import batches_per_update
from trainkit.loops.run import FitRun
from trainkit.progress import Progress


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is to come of an epoch.

    Attributes:
        index: Its index, from 0.
        updates: How many updates are left in it.
        ends: Whether its last batch is reached.
        begin: Batches of it that updates have used.
        size: Batches per update.
        num_batches: Its batches; None if nobody knows.
    """

    index: int
    updates: int
    ends: bool
    begin: int
    size: int
    num_batches: int | None

    def closes(self) -> Iterator[int]:
        """Give, for each update, how many batches of the epoch are done by then."""
        return (self.closed_by(update) for update in range(1, self.updates + 1))

    def closed_by(self, update: int) -> int:
        """Return how many batches of the epoch are done behind an update, of which the next one is 1."""
        # The last group of an epoch may be short.
        most = math.inf if self.num_batches is None else self.num_batches
        return int(min(self.begin + update * self.size, most))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """The updates that are to come.

    Attributes:
        step: Updates that are done.
        epoch: The index of the running epoch.
        batch: Batches of it that are done.
        num_batches: Batches of an epoch; None if nobody knows.
        accumulation: Batches per update, by the epoch from which each number holds.
        max_epochs: Epochs after which training ends; infinite for no limit.
        max_steps: Updates after which it does.
        total_batches: Batches that are done in the whole run.
        samples: Samples in them, on all ranks.
        sizes: Samples in the batches of an epoch, on all ranks; None if nobody knows.
    """

    step: int
    epoch: int
    batch: int
    num_batches: int | None
    accumulation: Mapping[int, int]
    max_epochs: float
    max_steps: float
    total_batches: int = 0
    samples: int = 0
    sizes: BatchSizes | None = None

    @classmethod
    def of(cls, run: FitRun, num_batches: float, sizes: BatchSizes | None = None) -> Ahead:
        """Return what is ahead of ``run``, between two batches, if its epochs go on to be alike.

        Args:
            run: The run.
            num_batches: Batches of an epoch; infinite if nobody knows.
            sizes: Samples in them; None if nobody knows, or asks.
        """
        progress, limits = run.progress, run.limits
        return cls(
            step=progress.global_step,
            epoch=progress.epoch,
            batch=progress.batch,
            num_batches=None if math.isinf(num_batches) else int(num_batches),
            accumulation=run.accumulation.schedule,
            max_epochs=limits.max_epochs,
            max_steps=limits.max_steps,
            total_batches=progress.total_batches,
            samples=progress.samples,
            sizes=sizes,
        )

    @property
    def updates(self) -> float:
        """How many they are; infinite if that has no bound that is known."""
        return min(sum(count * self._updates_in(epoch) for epoch, count in self._stretches()), self._steps_left)

    @property
    def epochs_that_end(self) -> float:
        """How many epochs come to their last batch, as far as that is known."""
        left, ended = self._steps_left, 0.0
        for epoch, count in self._stretches() if self.num_batches is not None else ():
            updates = self._updates_in(epoch)
            ended += count if left >= count * updates else left // updates
            left = max(0, left - count * updates)
        return ended

    def epochs(self, most: float) -> Iterator[Epoch]:
        """Yield the epochs that are to come, until ``most`` updates are made or training ends."""
        left, epoch = min(most, self._steps_left), self._first
        while epoch < self.max_epochs and left > 0 and self.num_batches != 0:
            size, in_epoch = batches_per_update(self.accumulation, epoch), self._updates_in(epoch)
            begin = self._used if epoch == self.epoch else 0
            yield Epoch(epoch, int(min(in_epoch, left)), in_epoch <= left, begin, size, self.num_batches)
            left -= in_epoch
            epoch += 1

    def counters(self) -> Progress:
        """Return what the run had counted at its newest update."""
        return Progress(
            epoch=self._first,
            global_step=self.step,
            total_batches=self.total_batches - self.batch + self._used,
            samples=self.samples - self.samples_in(self.batch) + self.samples_in(self._used),
        )

    def samples_in(self, batches: int) -> int:
        """Return how many samples the first ``batches`` of an epoch have; 0 if nobody knows."""
        return 0 if self.sizes is None else self.sizes.of_first(batches)

    @property
    def _steps_left(self) -> float:
        return max(0, self.max_steps - self.step)

    @property
    def _first(self) -> int:
        """The first epoch with updates: of one whose batches are done only the end is to come, already foreseen."""
        return self.epoch + (self.batch == self.num_batches)

    @property
    def _used(self) -> int:
        """How many batches of the running epoch updates have used; the others are in an open group."""
        if self.batch == self.num_batches:
            return self.batch
        return self.batch - self.batch % batches_per_update(self.accumulation, self.epoch)

    def _updates_in(self, epoch: int) -> float:
        """Return how many updates are left in an epoch; in one of unknown length it may go on for ever."""
        if self.num_batches is None:
            return math.inf
        size = batches_per_update(self.accumulation, epoch)
        return math.ceil(self.num_batches / size) - (self.batch // size if epoch == self.epoch else 0)

    def _stretches(self) -> Iterator[tuple[int, float]]:
        """Yield the first of each row of epochs with equally many updates, and how many epochs are in it."""
        if self.num_batches == 0:
            return
        # The running epoch is one of its own.
        starts = {self._first, self._first + 1} | {start for start in self.accumulation if start > self._first}
        for start, end in pairwise([*sorted(starts), math.inf]):
            if start < self.max_epochs:
                yield int(start), min(end, self.max_epochs) - start
