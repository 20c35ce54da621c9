"""Warning of schedules whose length is not that of the run: they fail in its last hours, or go where nobody meant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
)

from trainkit.callbacks.stochastic_weight_averaging import StochasticWeightAveraging
from trainkit.loops.ahead import Ahead
from trainkit.module.optimizers import SchedulerConfig
from trainkit.output import warn

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

_LENGTHS = {
    CosineAnnealingLR: "T_max",
    LinearLR: "total_iters",
    OneCycleLR: "total_steps",
    PolynomialLR: "total_iters",
}
"""What a scheduler calls the number of steps after which it is over."""

_OF_FUNCTIONS = "num_training_steps"
"""What the schedules of ``transformers`` call it, which are functions of a `LambdaLR`."""

_NOTICEABLE = 1.05
"""A cosine that goes on for less than a twentieth of its length rises by next to nothing."""

_WAVES = 3
"""One that goes on for so many of its lengths is a wave that may be meant; behind a warmup none is."""

_NEAR = 0.05
"""Numbers that differ by a larger share are not taken for one that was rounded in another way."""


@dataclass(frozen=True, slots=True)
class _Length:
    """After how many steps a schedule is over.

    Attributes:
        part: The scheduler that says so: the schedule, or a part of it.
        name: The name of the argument of which it is the value.
        size: That value.
        after: The steps of the schedule ahead of the part.
        stepped: How often the schedule has been stepped.
    """

    part: Any
    name: str
    size: float
    after: int
    stepped: int

    def __str__(self) -> str:
        said = f"{type(self.part).__name__} ({self.name}={self.size:,})"
        return f"{said}, which comes after {self.after:,} steps of a SequentialLR," if self.after else said

    @property
    def all(self) -> float:
        """The steps of the whole schedule."""
        return self.after + self.size

    def say(self, steps: float) -> str:
        """Return what to do so that the schedule has so many ``steps``."""
        return f"Say {self.name}={max(1, int(steps) - self.after)}"


def warn_of_lengths(trainer: Trainer) -> None:
    """Warn of each schedule of the running fit that certainly does not fit it; of what is only odd, say nothing."""
    run = trainer.fit_run
    for length in (each for config in run.schedulers for each in _lengths(config.scheduler)):
        if math.isinf(length.all):
            warn(
                f"{length} never gets anywhere: estimated_stepping_batches is infinite where nothing bounds the "
                f"fit. Say Trainer(max_steps=...), or a number as {length.name}."
            )
    # Weight averaging exchanges the schedulers in mid-run, and so none of them sees the end.
    averages = any(isinstance(each, StochasticWeightAveraging) for each in trainer.callbacks)
    # Time may be up first, and loaders that are made anew may be longer or shorter.
    varies = run.limits.max_time_s < math.inf or bool(trainer.arguments.data.reload_dataloaders_every_n_epochs)
    if run.is_tried or averages or varies:
        return
    rest = Ahead.of(run, trainer.num_training_batches)
    # A loader of unknown length may end the run before its last step.
    is_known = rest.num_batches is not None or rest.max_epochs == math.inf
    if not is_known or math.isinf(rest.updates):
        return
    whole = replace(rest, step=0, epoch=0, batch=0) if run.is_resumed else rest
    for config in run.schedulers if rest.updates else ():
        is_counted = config.goes_by_updates() and (config.interval == "step" or rest.num_batches is not None)
        lengths = _lengths(config.scheduler) if is_counted else ()
        # One is enough: what is wrong with a schedule is mostly wrong with each part of it.
        if wrong := next((text for each in lengths for text in _wrong(config, each, rest, whole, trainer)), None):
            warn(wrong)


def _wrong(config: SchedulerConfig, length: _Length, rest: Ahead, whole: Ahead, trainer: Trainer) -> Iterator[str]:
    """Yield what is wrong with the length of a schedule, the surest first."""
    kind, by_epoch = type(length.part), config.interval == "epoch"
    steps, per = _steps(config, whole), _per(config)
    count = _count_like(length.all, whole, trainer.strategy.data_world_size)
    as_long = f", and is as long as the number of {count} of this fit" if count else ""
    if per != "update" and (count or (by_epoch and kind is OneCycleLR)) and length.all >= 2 * steps:
        yield (
            f"{length} steps once per {per}{as_long}, which steps it {steps:,} times: it does not get far. "
            + ('Return {"scheduler": ..., "interval": "step"}.' if by_epoch else f"{length.say(steps)}.")
        )
    if per == "update" and count not in (None, "updates") and length.all > whole.updates:
        yield (
            f"{length} is as long as the number of {count} of this fit, and steps after each of its "
            f"{int(whole.updates):,} updates: it does not get to its end. Say {length.name}="
            f"self.trainer.estimated_stepping_batches{f' - {length.after}' if length.after else ''}."
        )
    # How often it has been stepped when the run ends.
    stepped = length.stepped + _steps(config, rest)
    if kind is OneCycleLR and stepped > length.all:
        yield (
            f"{length} is over before this fit, which steps it {stepped:,} times, and raises an error then. "
            f"{length.say(steps)}, or end the fit by then."
        )
    if kind is CosineAnnealingLR:
        # The rate after the last update is used by none.
        used = stepped - 1 - length.after
        is_in_epochs = not by_epoch and length.all == trainer.max_epochs and used > length.size
        is_wave = not length.after and used >= _WAVES * length.size
        if is_in_epochs or (length.size * _NOTICEABLE < used and not is_wave):
            yield (
                f"{length} rises again after {length.all:,} steps, and this fit steps it {stepped:,} times, once per "
                f"{per}. {length.say(steps)}, or use CosineAnnealingWarmRestarts for a wave."
            )


def _lengths(scheduler: Any) -> Iterator[_Length]:
    """Yield after how many steps a schedule is over, as each part tells that goes on to its end."""
    if type(scheduler) is SequentialLR:
        for each in _lengths(scheduler._schedulers[-1]):
            yield replace(each, after=scheduler._milestones[-1] + each.after, stepped=scheduler.last_epoch)
    elif type(scheduler) is ChainedScheduler:
        for part in scheduler._schedulers:
            yield from _lengths(part)
    else:
        name = _LENGTHS.get(type(scheduler), "")
        length = getattr(scheduler, name, 0) if name else 0
        if type(scheduler) is LambdaLR:
            name = _OF_FUNCTIONS
            function = scheduler.lr_lambdas[0]
            length = function.keywords.get(name, 0) if isinstance(function, partial) else 0
        if length == math.inf or (isinstance(length, int) and length):
            yield _Length(scheduler, name, length, after=0, stepped=scheduler.last_epoch)


def _steps(config: SchedulerConfig, ahead: Ahead) -> int:
    """Return how often the updates that are ``ahead`` step a scheduler."""
    by_step = config.interval == "step"
    before = ahead.step if by_step else ahead.counters().epoch
    more = int(ahead.updates if by_step else ahead.epochs_that_end)
    return (before + more) // config.frequency - before // config.frequency


def _per(config: SchedulerConfig) -> str:
    """Return after what it steps once, such as ``update`` or ``2 epochs``."""
    unit = "update" if config.interval == "step" else "epoch"
    return unit if config.frequency == 1 else f"{config.frequency} {unit}s"


def _count_like(length: float, whole: Ahead, world_size: int) -> str | None:
    """Return the name of what a fit has about ``length`` of; None if there is nothing."""
    epochs = whole.epochs_that_end
    batches = epochs * (whole.num_batches or 0)
    counts = {"updates": whole.updates, "batches": batches, "batches on all ranks": batches * world_size}
    # A batch more or less in each epoch is one that was rounded in another way. Of a short fit that may be as many as
    # there are, and any length would be near.
    near = (name for name, count in counts.items() if abs(length - count) <= min(epochs, count * _NEAR))
    return next(near, None)
