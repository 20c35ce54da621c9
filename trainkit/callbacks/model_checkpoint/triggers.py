"""Deciding when a save is due: after a number of updates, after some time, or at the save points of epochs."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from trainkit.checks import Duration, whole
from trainkit.errors import ConfigError
from trainkit.interval import read_interval
from trainkit.loops.cadence import Cadence


class SaveTriggers:
    """Notes that a save is due, and keeps the note until the callback can save.

    It cannot save at once within an accumulation group, or right before a validation.

    Args:
        every_n_train_steps: Save after every n-th update; 0 or None for no such saves.
        train_time_interval: Time from one save to the next.
        every_n_epochs: Use the save points of every n-th epoch. Without any of the arguments it is 1.
        where: Name of the callback, for error messages.
        every: Save whenever this has passed, in any unit; in place of the others.

    Attributes:
        is_due: Whether a save is due.
        is_due_for_top_k: Whether that save takes part in the ranking, or is for ``last.ckpt`` alone.

    Raises:
        ConfigError: If an argument is not usable, or if there is more than one.
    """

    def __init__(
        self,
        every_n_train_steps: int | None,
        train_time_interval: timedelta | None,
        every_n_epochs: int | None,
        where: str,
        every: Duration | None = None,
    ) -> None:
        whole("every_n_train_steps", every_n_train_steps, optional=True, where=where)
        whole("every_n_epochs", every_n_epochs, optional=True, where=where)
        if train_time_interval is not None and not _is_positive(train_time_interval):
            raise ConfigError(f"{where}: train_time_interval={train_time_interval!r} must be a timedelta above 0.")
        self.every = None if every is None else read_interval("every", every, where)
        given = {
            "every_n_train_steps": every_n_train_steps,
            "train_time_interval": train_time_interval,
            "every_n_epochs": every_n_epochs,
            "every": every,
        }
        used = [f"{name}={value!r}" for name, value in given.items() if value]
        if len(used) > 1:
            raise ConfigError(f"{where}: {' and '.join(used)} exclude each other. Use one callback for each.")
        # 0 turns a trigger off, and is not the same as None: with every_n_epochs=0 no epoch's save points are ranked.
        is_default = all(value is None for value in given.values())
        self.every_n_train_steps = every_n_train_steps or 0
        self.train_time_interval = train_time_interval
        self.every_n_epochs = 1 if is_default else every_n_epochs or 0
        self._cadence: Cadence | None = None
        self._seen: dict[str, float] = {}
        self._seen_step: int | None = None
        self.start(0, is_resumed=False)

    def start(self, global_step: int, *, is_resumed: bool, cadence: Cadence | None = None) -> None:
        """Start to count, when training starts.

        Args:
            global_step: Updates so far, which are not due (again).
            is_resumed: Whether the fit resumed from a checkpoint; what was due in that state still is, and an update
                that the callback had not seen when it was saved comes to be seen.
            cadence: Tells when ``every`` has passed.
        """
        if not is_resumed or self._seen_step is None:
            self._seen_step = global_step
        self._timed_at_s = time.monotonic()
        if not is_resumed:
            self.is_due = self.is_due_for_top_k = False
        self._cadence = cadence
        if cadence is not None and is_resumed:
            cadence.load_state_dict(self._seen)

    def note_update(self, global_step: int) -> None:
        """Note the number of updates; a save is due if it is a new one, and a multiple of ``every_n_train_steps``."""
        # Called after every batch, and a batch need not make an update.
        if global_step != self._seen_step:
            self._seen_step = global_step
            if self.every_n_train_steps and global_step % self.every_n_train_steps == 0:
                self.is_due = self.is_due_for_top_k = True

    def note_count(self) -> None:
        """Note how far the run is; a save is due if ``every`` has passed. All ranks do: they agree on the time."""
        if self._cadence is not None and self._cadence.passed():
            self.is_due = self.is_due_for_top_k = True

    def is_time(self) -> bool:
        """Whether ``train_time_interval`` has passed since the last save that was due by time."""
        interval = self.train_time_interval
        return interval is not None and time.monotonic() - self._timed_at_s >= interval.total_seconds()

    def note_time(self) -> None:
        """Note that the interval is over, on which all ranks have agreed; the next one starts."""
        self._timed_at_s = time.monotonic()
        self.is_due = self.is_due_for_top_k = True

    def note_epoch(self, epoch: int) -> None:
        """Note that a save point of ``epoch`` has come."""
        # For last.ckpt every save point counts, for the ranking only those of every n-th epoch.
        self.is_due = True
        if self.every_n_epochs and (epoch + 1) % self.every_n_epochs == 0:
            self.is_due_for_top_k = True

    def state_dict(self) -> dict[str, Any]:
        """Return whether a save is due, and what was noted last."""
        seen = {} if self._cadence is None else {"seen": self._cadence.state_dict()}
        return {"due": [self.is_due, self.is_due_for_top_k], "seen_step": self._seen_step, **seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.is_due, self.is_due_for_top_k = state.get("due", (False, False))
        self._seen_step, self._seen = state.get("seen_step"), state.get("seen", {})

    def take(self) -> bool:
        """Note that the due save is made now; return whether it takes part in the ranking."""
        for_top_k = self.is_due_for_top_k
        self.is_due = self.is_due_for_top_k = False
        return for_top_k


def _is_positive(interval: object) -> bool:
    return isinstance(interval, timedelta) and interval > timedelta(0)
