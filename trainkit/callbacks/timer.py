"""Measuring training, validation and test, and ending a fit after a given time."""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from trainkit.checks import Duration, flags, one_of, seconds, takes_numpy
from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage
from trainkit.output import say
from trainkit.storage.schema import takes
from trainkit.types import Phase

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

TIMED = (Phase.TRAIN, Phase.VALIDATE, Phase.TEST)


class _State(TypedDict):
    """The seconds that training has taken."""

    time_elapsed: float


class Timer(Callback):
    """Measures phases, and ends a fit after ``duration`` of training.

    The time before the checkpoint from which a fit resumed counts. ``Trainer(max_time=...)`` ends a fit as well; a
    timer can also be asked for the times.

    Args:
        duration: ``"DD:HH:MM:SS"``, a ``timedelta``, its arguments as a dict, or None to measure only.
        interval: Whether to check after each "step" or after each "epoch".
        verbose: Whether to print when time is up.

    Raises:
        ConfigError: If an argument is not usable.
    """

    stage: ClassVar[PluginStage] = "decide"

    @takes_numpy
    def __init__(
        self, duration: Duration | None = None, interval: Literal["step", "epoch"] = "step", verbose: bool = True
    ) -> None:
        one_of("interval", interval, ("step", "epoch"), "Timer")
        self._duration_s = seconds("duration", duration)
        flags("Timer", verbose=verbose)
        self.interval = interval
        self.verbose = verbose
        self._started: dict[Phase, float] = {}
        self._ended: dict[Phase, float] = {}
        self._earlier_s = 0.0  # seconds of training before the checkpoint from which the fit resumed

    def start_time(self, stage: str = Phase.TRAIN) -> float | None:
        """Return the ``time.monotonic`` at which a phase began; None if it has not begun."""
        return self._started.get(_timed(stage))

    def end_time(self, stage: str = Phase.TRAIN) -> float | None:
        """Return the ``time.monotonic`` at which a phase ended; None if it has not ended."""
        return self._ended.get(_timed(stage))

    def time_elapsed(self, stage: str = Phase.TRAIN) -> float:
        """Return the seconds that a phase has taken so far; training includes the time before it was resumed."""
        phase = _timed(stage)
        earlier = self._earlier_s if phase is Phase.TRAIN else 0.0
        if phase not in self._started:
            return earlier
        return earlier + self._ended.get(phase, monotonic()) - self._started[phase]

    def time_remaining(self, stage: str = Phase.TRAIN) -> float | None:
        """Return the seconds that are left of ``duration``; None if no duration was given."""
        return None if self._duration_s == math.inf else self._duration_s - self.time_elapsed(stage)

    def on_fit_start(self, trainer: Trainer) -> None:
        # A resumed fit may have no time left, and must not train one more batch to find out.
        self._end_if_due(trainer)

    def on_train_start(self) -> None:
        self._start(Phase.TRAIN)

    def on_train_batch_end(self, trainer: Trainer) -> None:
        if self.interval == "step":
            self._end_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer) -> None:
        if self.interval == "epoch":
            self._end_if_due(trainer)

    def on_train_end(self) -> None:
        self._ended[Phase.TRAIN] = monotonic()

    def on_validation_start(self) -> None:
        self._start(Phase.VALIDATE)

    def on_validation_end(self) -> None:
        self._ended[Phase.VALIDATE] = monotonic()

    def on_test_start(self) -> None:
        self._start(Phase.TEST)

    def on_test_end(self) -> None:
        self._ended[Phase.TEST] = monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds that training has taken so far."""
        return {"time_elapsed": self.time_elapsed()}

    @takes(_State)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the time that training had taken."""
        # The time of an earlier fit of this Trainer is no part of the run that resumes.
        self._started.pop(Phase.TRAIN, None)
        self._earlier_s = state["time_elapsed"]

    def _start(self, phase: Phase) -> None:
        self._started[phase] = monotonic()
        self._ended.pop(phase, None)

    def _end_if_due(self, trainer: Trainer) -> None:
        # Clocks of ranks differ, but what one rank asks for is done by all, at the same batch.
        if self.time_elapsed() >= self._duration_s:
            if self.verbose and not trainer.should_stop and trainer.is_global_zero:
                say(f"Timer: time is up after {self.time_elapsed():.0f} s of training.")
            trainer.should_stop = True


def _timed(stage: str) -> Phase:
    one_of("stage", stage, [phase.value for phase in TIMED], "Timer")
    return Phase(stage)
