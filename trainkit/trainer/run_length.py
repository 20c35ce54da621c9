"""How long a run is and when it validates, once the length of an epoch is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from trainkit.checks import seconds
from trainkit.errors import ConfigError
from trainkit.loops.accumulation import batches_per_update
from trainkit.loops.ahead import Ahead
from trainkit.loops.limits import NO_LIMIT, Limits
from trainkit.loops.run import FitRun
from trainkit.loops.stop import SHOULD_STOP
from trainkit.output import say, warn
from trainkit.progress import Progress
from trainkit.trainer.arguments import DataArguments, StopArguments

DEFAULT_MAX_EPOCHS = 1000


def make_limits(stop: StopArguments, data: DataArguments, *, num_batches: int | None, validates: bool) -> Limits:
    """Say how long to train and when to validate, now that the length of an epoch is known.

    Args:
        stop: How long, as the user said it.
        data: How much of the data, as the user said it.
        num_batches: Training batches of the first epoch; None if unknown.
        validates: Whether there is something to validate with.

    Raises:
        ConfigError: If the validation interval does not fit the epoch.
    """
    if is_endless(stop) and not data.fast_dev_run:
        warn(f"max_epochs is not set: training for {DEFAULT_MAX_EPOCHS} epochs. For no limit say max_epochs=-1.")
    limits = Limits(
        max_epochs=max_epochs(stop, data),
        min_epochs=stop.min_epochs or 0,
        max_steps=max_steps(stop, data),
        min_steps=stop.min_steps or 0,
        max_time_s=seconds("max_time", stop.max_time),
        validate=validates,
        validate_every_n_epochs=data.check_val_every_n_epoch,
    )
    if data.fast_dev_run:
        # A minimum would keep the few batches from being all; and all is tried, so it validates behind the last one.
        limits.min_epochs = limits.min_steps = 0
        limits.validate_every_n_epochs = 1
        return limits
    interval, limits.validate_every = data.val_check_interval, data.validate_every
    if validates and isinstance(interval, int | float):
        limits.batches_between = partial(_batches_between, interval, data)
        limits.start_epoch(num_batches)  # an interval that does not fit is an error before anything runs
    return limits


def max_epochs(stop: StopArguments, data: DataArguments) -> float:
    """Return how many epochs to train: without any limit at all it is `DEFAULT_MAX_EPOCHS`."""
    if data.fast_dev_run:
        return 1
    if stop.max_epochs is None:
        return DEFAULT_MAX_EPOCHS if is_endless(stop) else NO_LIMIT
    return NO_LIMIT if stop.max_epochs == -1 else stop.max_epochs


def max_steps(stop: StopArguments, data: DataArguments) -> float:
    """Return how many updates to make."""
    if data.fast_dev_run:
        return int(data.fast_dev_run)  # one for each of its batches: fewer would end it ahead of the validation
    return NO_LIMIT if stop.max_steps == -1 else stop.max_steps


def is_endless(stop: StopArguments) -> bool:
    """Return whether nothing was said that would end a fit, not even that it shall have no end."""
    return stop.max_epochs is None and stop.max_steps == -1 and stop.max_time is None


def _batches_between(interval: int | float, data: DataArguments, num_batches: int | None) -> float:
    # 1 is every batch, 1.0 the end of each epoch, also of one whose length nobody knows.
    if interval == 1.0 and isinstance(interval, float):
        return NO_LIMIT
    if isinstance(interval, float):
        if num_batches is None:
            raise ConfigError(
                f"val_check_interval={interval} is a share of an epoch, and the training loader does not know its "
                "length. Say a number of batches instead, or 1.0 for the end of each epoch."
            )
        # As Lightning rounds: 5 batches and 0.4 validate after 2 and 4.
        return max(1, int(num_batches * interval))
    if num_batches is not None and interval > num_batches and data.check_val_every_n_epoch is not None:
        raise ConfigError(
            f"val_check_interval={interval} is more than the {num_batches} training batches of an epoch. Say fewer "
            "batches, or check_val_every_n_epoch=None to count batches across epochs."
        )
    return interval


def estimated_updates(
    num_batches: float,
    stop: StopArguments,
    data: DataArguments,
    accumulation: Mapping[int, int],
    since: tuple[int, int] = (0, 0),
) -> float:
    """Return how many updates a fit makes if nothing stops it earlier; infinite if that has no bound.

    Args:
        num_batches: Training batches of an epoch; infinite if unknown.
        stop: How long to train.
        data: How much of the data to use.
        accumulation: Batches per update, by the epoch from which each number holds.
        since: The epochs and updates that are done, and not counted.
    """
    epoch, step = since
    return Ahead(
        step=step,
        epoch=epoch,
        batch=0,
        num_batches=None if num_batches == NO_LIMIT else int(num_batches),
        accumulation=accumulation,
        max_epochs=max_epochs(stop, data),
        max_steps=max_steps(stop, data),
    ).updates


def epoch_begin(progress: Progress, accumulation: Mapping[int, int]) -> tuple[int, int]:
    """Return how many epochs and updates were done when the running epoch began."""
    groups = progress.batch / batches_per_update(accumulation, progress.epoch)
    return progress.epoch, progress.global_step - (math.ceil(groups) if progress.is_last else int(groups))


def stop_state(run: FitRun) -> dict[str, Any]:
    """Return who has asked for an end of training, and the limits that hold, for a checkpoint."""
    limits = run.limits
    return {
        "asked_by": run.stop_signal.asked_by,
        "max_epochs": limits.max_epochs,
        "max_steps": limits.max_steps,
        "max_time_s": limits.max_time_s,
    }


def restore_stop(run: FitRun, saved: Mapping[str, Any], plugins: Iterable[tuple[str, object]]) -> None:
    """Let the end of training be asked for by whoever had asked for it, unless the user has changed the reason.

    Args:
        run: The run that continues.
        saved: What `stop_state` returned.
        plugins: Its plugins with their state keys. One that is not among them any more asks for nothing, and neither
            does one whose attribute ``wants_stop`` is false.
    """
    by = saved.get("asked_by", "")
    if by == SHOULD_STOP:
        # It has no argument that could be changed: who raises a limit wants to train on.
        limits = ("max_epochs", "max_steps", "max_time_s")
        still = not any(getattr(run.limits, name) > saved.get(name, NO_LIMIT) for name in limits)
    else:
        still = any(key == by and getattr(plugin, "wants_stop", True) for key, plugin in plugins)
    if still:
        run.stop_signal.ask(by=by)


def begin_or_say_done(run: FitRun) -> None:
    """Note that training begins, or goes on; warn if there is nothing left to train."""
    progress = run.progress
    if not run.is_done():
        progress.ended = False
        if run.unfinished_hook is not None and run.unfinished_hook.name == "on_train_end":
            run.unfinished_hook = None  # it comes when training has ended anew
        if not run.is_resumed and progress.total_batches and run.strategy.is_global_zero:
            say(
                f"trainkit: this fit counts on from epoch {progress.epoch}, step {progress.global_step}, with "
                "optimizers and schedulers made anew; fit(..., ckpt_path='last') goes on with theirs too.",
                err=True,
            )
    # Not for max_epochs=0, which is said on purpose.
    elif progress.epoch or progress.total_batches:
        warn(
            f"nothing is left to train: {progress.epoch} epochs and {progress.global_step} steps are done, and "
            f"{_what_ended(run)}"
        )


def _what_ended(run: FitRun) -> str:
    limits, progress, by = run.limits, run.progress, run.stop_signal.asked_by
    if progress.epoch >= limits.max_epochs:
        return f"max_epochs={limits.max_epochs}. Raise it to train on."
    if progress.global_step >= limits.max_steps:
        return f"max_steps={limits.max_steps}. Raise it to train on."
    if by == SHOULD_STOP:
        return f"{by} was set. Raise max_epochs or max_steps to train on."
    if by:
        return f"{by.partition('{')[0]} has ended the run. Change its arguments, or leave it out, to train on."
    return f"max_time={limits.max_time_s} s is over. Raise it to train on."
