"""Warning of schedules whose length is not that of the run: they fail in its last hours, or go where nobody meant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, PolynomialLR

from trainkit.callbacks.schedule_preview.ahead import Ahead, goes_by_updates
from trainkit.callbacks.stochastic_weight_averaging import StochasticWeightAveraging
from trainkit.module.optimizers import SchedulerConfig
from trainkit.output import warn

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

_LENGTHS = {CosineAnnealingLR: "T_max", OneCycleLR: "total_steps", PolynomialLR: "total_iters"}
"""What a scheduler calls the number of steps after which it is over. Not `LinearLR`, which is often a warmup."""

_OF_FUNCTIONS = "num_training_steps"
"""What the schedules of ``transformers`` call it, which are functions of a `LambdaLR`."""

MOST_COUNTED = 100_000
"""A fit that is limited by neither so many epochs nor updates is not looked at: to count them would take its time."""

_NOTICEABLE = 1.05
"""A cosine that goes on for less than a twentieth of its length rises by next to nothing."""


def warn_of_lengths(trainer: Trainer) -> None:
    """Warn of each schedule of the running fit that certainly does not fit it; of what is only odd, say nothing."""
    run, batches = trainer.fit_run, trainer.num_training_batches
    configs = [config for config in run.schedulers if _length(config)[1] and goes_by_updates(config)]
    # Weight averaging exchanges the schedulers in mid-run, and so none of them sees the end.
    averages = any(isinstance(each, StochasticWeightAveraging) for each in trainer.callbacks)
    if not configs or run.is_tried or averages:
        return
    ahead = Ahead.of(run, None if math.isinf(batches) else int(batches))
    # A loader of unknown length may end the run before its last step.
    is_known = ahead.max_epochs == math.inf if ahead.num_batches is None else True
    if not is_known or min(ahead.max_epochs, ahead.max_steps) > MOST_COUNTED:
        return
    rest = _Course.of(ahead)
    whole = _Course.of(replace(ahead, step=0, epoch=0, batch=0)) if run.is_resumed else rest
    for config in configs:
        if wrong := next(_wrong(config, rest, whole, trainer), None):
            warn(wrong)


@dataclass(frozen=True, slots=True)
class _Course:
    """How much a fit, or the rest of one, makes of what schedulers count.

    Attributes:
        step: The updates before it.
        updates: Its updates.
        epoch: The epochs before it.
        epochs: Its epochs that come to their end.
        batches: The batches in these.
    """

    step: int
    updates: int
    epoch: int
    epochs: int
    batches: int

    @classmethod
    def of(cls, ahead: Ahead) -> _Course:
        epochs = list(ahead.epochs(math.inf))
        ended = sum(epoch.ends for epoch in epochs)
        return cls(
            step=ahead.step,
            updates=sum(epoch.updates for epoch in epochs),
            epoch=epochs[0].index if epochs else ahead.epoch,
            epochs=ended,
            batches=ended * (ahead.num_batches or 0),
        )

    def steps(self, config: SchedulerConfig) -> int:
        """Return how often it steps a scheduler."""
        before, more = (self.step, self.updates) if config.interval == "step" else (self.epoch, self.epochs)
        return (before + more) // config.frequency - before // config.frequency


def _wrong(config: SchedulerConfig, rest: _Course, whole: _Course, trainer: Trainer) -> Iterator[str]:
    """Yield what is wrong with the length of a schedule, the surest first."""
    name, length = _length(config)
    scheduler = config.scheduler
    called = f"{type(scheduler).__name__} ({name}={length:,})"
    counted = _counted(length, whole, trainer.world_size)
    # Of a OneCycleLR that steps by epoch is told when it is returned.
    if config.interval == "epoch" and type(scheduler) is not OneCycleLR and counted and length >= 2 * whole.epochs:
        yield (
            f"{called} steps once per epoch, and is as long as the number of {counted} of this fit, not of its "
            f'{whole.epochs:,} epochs: it does not get far. Return {{"scheduler": ..., "interval": "step"}}.'
        )
    if config.interval == "step" and counted not in ("", "updates") and length > whole.updates:
        yield (
            f"{called} is as long as the number of {counted} of this fit, and steps after each of its "
            f"{whole.updates:,} updates: it does not get to its end. Say "
            f"{name}=self.trainer.estimated_stepping_batches."
        )
    # How often it has been stepped when the run ends.
    stepped = getattr(scheduler, "last_epoch", 0) + rest.steps(config)
    if type(scheduler) is OneCycleLR and stepped > length:
        yield (
            f"{called} is over before this fit, which steps it {stepped:,} times, and raises an error then. Say "
            f"{name}={whole.steps(config)}, or end the fit by then."
        )
    if type(scheduler) is CosineAnnealingLR:
        # The rate after the last update is used by none.
        is_in_epochs = config.interval == "step" and length == trainer.max_epochs and stepped - 1 > length
        if is_in_epochs or length * _NOTICEABLE < stepped - 1 < 2 * length:
            unit = "update" if config.interval == "step" else "epoch"
            yield (
                f"{called} rises again after {length:,} steps, and this fit steps it {stepped:,} times, once per "
                f"{unit}. Say {name}={whole.steps(config)}, or use CosineAnnealingWarmRestarts for a wave."
            )


def _length(config: SchedulerConfig) -> tuple[str, int]:
    """Return after how many steps a schedule is over, with the name of that argument; 0 where it does not tell."""
    scheduler = config.scheduler
    name = _LENGTHS.get(type(scheduler), "")
    length = getattr(scheduler, name, 0) if name else 0
    if type(scheduler) is LambdaLR:
        keywords = getattr(scheduler.lr_lambdas[0], "keywords", {})
        name, length = _OF_FUNCTIONS, keywords.get(_OF_FUNCTIONS, 0)
    return name, length if isinstance(length, int) else 0


def _counted(length: int, whole: _Course, world_size: int) -> str:
    """Return what of a fit there are about as many of; empty if nothing."""
    on_all_ranks = whole.batches * world_size
    counts = {"updates": whole.updates, "batches": whole.batches, "batches on all ranks": on_all_ranks}
    # A batch more or less in each epoch is one that was rounded in another way.
    near = (name for name, count in counts.items() if abs(length - count) <= min(whole.epochs, count // 20))
    return next(near, "")
