"""Where the run of a Trainer is: its counters, and what is running right now, read off its newest call."""

from __future__ import annotations

import sys

from trainkit.errors import NotAttachedError
from trainkit.loops.run import FitRun, Run
from trainkit.progress import Progress
from trainkit.trainer.call import Call
from trainkit.trainer.data import DataConnection
from trainkit.trainer.trainer_state import TrainerState
from trainkit.types import Phase, Stage


class RunProperties:
    """The properties of a `Trainer` that tell where its run is: of the running call, or of the last one (``call.py``).

    Only ``should_stop`` may be set.

    Attributes:
        progress: The counters of the fits; while a checkpoint is evaluated, those of the checkpoint.
    """

    progress: Progress
    _call: Call | None

    @property
    def state(self) -> TrainerState:
        """What the Trainer is doing."""
        return TrainerState() if self._call is None else self._call.state

    @property
    def run(self) -> Run:
        """The parts of the running or last call.

        Raises:
            NotAttachedError: Before the first one.
        """
        if self._call is None:
            raise NotAttachedError("nothing has run yet: call fit, validate, test or predict first.")
        return self._call.run

    @property
    def fit_run(self) -> FitRun:
        """The parts of the running or last call, which is a fit: with optimizers, accumulation and limits.

        Raises:
            NotAttachedError: Before the first call, or if it is no fit.
        """
        if self._call is None:
            raise NotAttachedError("nothing has run yet: call fit first.")
        return self._call.fit_run

    @property
    def current_epoch(self) -> int:
        """The index of the running epoch; after a fit, how many epochs are complete."""
        return self.progress.epoch

    @property
    def global_step(self) -> int:
        """Optimizer updates so far."""
        return self.progress.global_step

    @property
    def is_last_batch(self) -> bool:
        """Whether the newest training batch, which may be under way, is the last of its epoch."""
        return self._is_fit and self.fit_run.is_last_batch

    @property
    def ckpt_path(self) -> str | None:
        """The checkpoint that the running or last call was started from."""
        return None if self._call is None else self._call.ckpt_path

    @property
    def continues_last(self) -> bool:
        """Whether that was found by ``ckpt_path="last"``, so that the call goes on in the run's folder."""
        return self._call is not None and self._call.continues_last

    @property
    def phase(self) -> Phase | None:
        """What is running right now; until a loop runs, what has been asked for."""
        return None if self._call is None else self._call.phase

    @property
    def training(self) -> bool:
        """Whether training batches are being run, and no validation inside."""
        return self.phase is Phase.TRAIN

    @property
    def validating(self) -> bool:
        """Whether a validation is running, in ``fit`` or on its own."""
        return self.phase is Phase.VALIDATE

    @property
    def testing(self) -> bool:
        """Whether a test is running."""
        return self.phase is Phase.TEST

    @property
    def predicting(self) -> bool:
        """Whether a prediction is running."""
        return self.phase is Phase.PREDICT

    @property
    def sanity_checking(self) -> bool:
        """Whether the few validation batches ahead of training are running."""
        return self.state.is_sanity_check(asks=sys._getframe(1))

    @property
    def evaluating(self) -> bool:
        """Whether a validation, a test or the sanity check is running."""
        return self.validating or self.testing or self.sanity_checking

    @property
    def interrupted(self) -> bool:
        """Whether the last call ended with an exception."""
        return self.state.status == "interrupted"

    @property
    def should_stop(self) -> bool:
        """Set it to end the fit after the running batch, as soon as ``min_epochs`` and ``min_steps`` are met.

        A stop that was asked for stays: False is no answer to somebody else's True.
        """
        return self._call is not None and self._call.stop_signal.asked

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        if self._call is not None:
            # Whoever wonders why a fit has ended wants to know where that was decided.
            self._call.stop_signal.ask_or_leave(value, place=sys._getframe(1).f_code.co_qualname)

    # What these read: before the first call, and while one is being prepared, there is none of it yet.

    @property
    def _data(self) -> DataConnection | None:
        return self._call.data if self._call is not None and self._call.has_data else None

    @property
    def _is_fit(self) -> bool:
        return self._call is not None and self._call.is_prepared and self._call.stage is Stage.FIT
