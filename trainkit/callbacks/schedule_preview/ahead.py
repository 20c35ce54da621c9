"""Which updates a fit has yet to make, as far as that is known before it makes them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trainkit.loops.run import FitRun
from trainkit.module.optimizers import SchedulerConfig

MOST_EPOCHS = 1_000_000
"""A limit of more epochs is none: nobody would wait until they are counted."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is to come of an epoch.

    Attributes:
        index: Its index, from 0.
        updates: How many updates are left in it.
        ends: Whether its last batch is reached.
    """

    index: int
    updates: int
    ends: bool


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
    """

    step: int
    epoch: int
    batch: int
    num_batches: int | None
    accumulation: Mapping[int, int]
    max_epochs: float
    max_steps: float

    @classmethod
    def of(cls, run: FitRun, num_batches: int | None) -> Ahead:
        """Return what is ahead of ``run``, between two batches, if its epochs go on to have ``num_batches``."""
        progress, limits = run.progress, run.limits
        return cls(
            step=progress.global_step,
            epoch=progress.epoch,
            batch=progress.batch,
            num_batches=num_batches,
            accumulation=run.accumulation.schedule,
            max_epochs=limits.max_epochs,
            max_steps=limits.max_steps,
        )

    @property
    def updates(self) -> float:
        """How many they are; infinite if that is not known."""
        has_epochs = self.max_epochs < MOST_EPOCHS and self.num_batches is not None
        if not has_epochs and self.max_steps == math.inf:
            return math.inf
        return sum(epoch.updates for epoch in self.epochs(math.inf))

    def epochs(self, most: float) -> Iterator[Epoch]:
        """Yield the epochs that are to come, until ``most`` updates are made or training ends."""
        left = min(most, self.max_steps - self.step)
        epoch, batch = self.epoch, self.batch
        if batch == self.num_batches:  # of the running epoch only the end is to come, which schedulers have seen
            epoch, batch = epoch + 1, 0
        while epoch < self.max_epochs and left > 0 and self.num_batches != 0:
            size = self.accumulation[max([start for start in self.accumulation if start <= epoch])]
            # An epoch of unknown length may go on for ever; the last group of one may be short.
            in_epoch = math.inf if self.num_batches is None else math.ceil(self.num_batches / size) - batch // size
            yield Epoch(epoch, int(min(in_epoch, left)), in_epoch <= left)
            left -= in_epoch
            epoch, batch = epoch + 1, 0


def goes_by_updates(config: SchedulerConfig) -> bool:
    """Whether a scheduler steps after so many updates or epochs, and by no other count that ``every`` may name."""
    counts = config.counts()
    return counts is None or counts.unit in ("steps", "epochs")
