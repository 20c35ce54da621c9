"""Why a fit has ended, in words, and what would let it go on."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Literal, NamedTuple

from trainkit.hooks.attribution import in_one_line

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class Ending(NamedTuple):
    """How a fit has ended.

    Attributes:
        reason: Why, as a clause: ``max_epochs=3 is reached``.
        to_go_on: What has to be changed for a fit that goes on from there to train; empty if nothing has.
        status: The same in one word: ``finished`` at a limit, ``stopped`` by a plugin or the user's code,
            ``interrupted`` by a signal, ``failed`` with an error.
    """

    reason: str
    to_go_on: str = ""
    status: Literal["finished", "stopped", "interrupted", "failed"] = "finished"


def why_interrupted(trainer: Trainer, error: BaseException) -> Ending:
    """Say how ``error`` has ended the fit of ``trainer``, in nothing that holds on to it."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        received = trainer.fit_run.stop_signal.received
        name = signal.Signals(received).name if received else type(error).__name__
        return Ending(f"interrupted by {name}", status="interrupted")
    return Ending(f"failed with {in_one_line(error).splitlines()[0]}", status="failed")


def why_ended(trainer: Trainer) -> Ending:
    """Say how the fit of ``trainer`` has ended, whose training had begun, once its loop was left without an error."""
    run = trainer.fit_run
    progress, limits, stop = run.progress, run.limits, run.stop_signal
    if trainer.fast_dev_run:
        return Ending("all was tried that fast_dev_run asks for")
    if progress.epoch >= limits.max_epochs:
        return Ending(f"max_epochs={limits.max_epochs} is reached", "a larger max_epochs")
    if progress.global_step >= limits.max_steps:
        return Ending(f"max_steps={limits.max_steps} is reached", "a larger max_steps")
    if stop.asked:
        return _on_request(trainer)
    return Ending(f"max_time is over, {limits.max_time_s:.0f} s of training", "a longer max_time")


def _on_request(trainer: Trainer) -> Ending:
    for callback in trainer.early_stopping_callbacks:
        if callback.wants_stop:
            message = (callback.stopping_reason_message or callback.monitor).removesuffix(".")
            return Ending(f"EarlyStopping: {message}", "other arguments of EarlyStopping", "stopped")
    stop = trainer.fit_run.stop_signal
    # Of a method of its own, such as `Timer._end_if_due`, the class says more.
    place = stop.asked_in.partition("._")[0]
    who = f"{stop.asked_by} was set" + (f" in {place}" if place else "")
    return Ending(who, "a larger max_epochs or max_steps", "stopped")
