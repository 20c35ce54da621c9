"""Deciding when a save is due: after a number of updates, after some time, or at the save points of epochs."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from trainkit.checks import whole
from trainkit.errors import ConfigError


class SaveTriggers:
    """Notes that a save is due, and keeps the note until the callback can save.

    It cannot save at once within an accumulation group, or right before a validation.

    Args:
        every_n_train_steps: Save after every n-th update; 0 or None for no such saves.
        train_time_interval: Time from one save to the next.
        every_n_epochs: Use the save points of every n-th epoch. Without any of the three arguments it is 1.
        where: Name of the callback, for error messages.

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
    ) -> None:
        whole("every_n_train_steps", every_n_train_steps, optional=True, where=where)
        whole("every_n_epochs", every_n_epochs, optional=True, where=where)
        if train_time_interval is not None and not _is_positive(train_time_interval):
            raise ConfigError(f"{where}: train_time_interval={train_time_interval!r} must be a timedelta above 0.")
        if sum(map(bool, (every_n_train_steps, train_time_interval, every_n_epochs))) > 1:
            raise ConfigError(
                f"{where}: every_n_train_steps={every_n_train_steps}, train_time_interval={train_time_interval} and "
                f"every_n_epochs={every_n_epochs} exclude each other. Use one callback for each."
            )
        # 0 turns a trigger off, and is not the same as None: with every_n_epochs=0 no epoch's save points are ranked.
        is_default = every_n_train_steps is None and train_time_interval is None and every_n_epochs is None
        self.every_n_train_steps = every_n_train_steps or 0
        self.train_time_interval = train_time_interval
        self.every_n_epochs = 1 if is_default else every_n_epochs or 0
        self._seen_step: int | None = None
        self.start(0, is_resumed=False)

    def start(self, global_step: int, *, is_resumed: bool) -> None:
        """Start to count, when training starts.

        Args:
            global_step: Updates so far, which are not due (again).
            is_resumed: Whether the fit resumed from a checkpoint; what was due in that state still is, and an update
                that the callback had not seen when it was saved comes to be seen.
        """
        if not is_resumed or self._seen_step is None:
            self._seen_step = global_step
        self._timed_at_s = time.monotonic()
        if not is_resumed:
            self.is_due = self.is_due_for_top_k = False

    def note_update(self, global_step: int) -> None:
        """Note the number of updates; a save is due if it is a new one, and a multiple of ``every_n_train_steps``."""
        # Called after every batch, and a batch need not make an update.
        if global_step != self._seen_step:
            self._seen_step = global_step
            if self.every_n_train_steps and global_step % self.every_n_train_steps == 0:
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
        """Return whether a save is due, and the newest update that was noted."""
        return {"due": [self.is_due, self.is_due_for_top_k], "seen_step": self._seen_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.is_due, self.is_due_for_top_k = state.get("due", (False, False))
        self._seen_step = state.get("seen_step")

    def take(self) -> bool:
        """Note that the due save is made now; return whether it takes part in the ranking."""
        for_top_k = self.is_due_for_top_k
        self.is_due = self.is_due_for_top_k = False
        return for_top_k


def _is_positive(interval: object) -> bool:
    return isinstance(interval, timedelta) and interval > timedelta(0)
