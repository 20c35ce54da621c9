"""When a checkpoint falls due: after updates, after some time, or at the save points of epochs."""

from __future__ import annotations

import time
from datetime import timedelta

from trainkit.checks import whole
from trainkit.errors import ConfigError


class SaveTriggers:
    """Remembers that a save is due until the moment comes in which it can be made.

    Args:
        every_n_train_steps: Updates from one save to the next; 0 or None for no such saves.
        train_time_interval: Time from one save to the next.
        every_n_epochs: Epochs from one whose save points are used to the next; without any argument each one is.
        where: Who asks, for errors.

    Attributes:
        is_due: Whether a save point has come.
        is_due_for_top_k: Whether what is saved there takes part in the ranking; ``last.ckpt`` is written anyway.

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
        is_default = every_n_train_steps is None and train_time_interval is None and every_n_epochs is None
        self.every_n_train_steps = every_n_train_steps or 0
        self.train_time_interval = train_time_interval
        self.every_n_epochs = 1 if is_default else every_n_epochs or 0
        self.start(0, is_resumed=False)

    def start(self, global_step: int, *, is_resumed: bool) -> None:
        """Begin to count; updates up to ``global_step`` are those of an earlier session.

        Args:
            global_step: Updates so far.
            is_resumed: Whether what was due in the earlier session still is.
        """
        self._seen_step = global_step
        self._timed_at_s = time.monotonic()
        if not is_resumed:
            self.is_due = self.is_due_for_top_k = False

    def note_update(self, global_step: int) -> None:
        """Look whether an update was made after which to save."""
        if global_step != self._seen_step:
            self._seen_step = global_step
            if self.every_n_train_steps and global_step % self.every_n_train_steps == 0:
                self.is_due = self.is_due_for_top_k = True

    def is_time(self) -> bool:
        """Whether the time since the last save by time is over."""
        interval = self.train_time_interval
        return interval is not None and time.monotonic() - self._timed_at_s >= interval.total_seconds()

    def note_time(self) -> None:
        """It is time, as the ranks agree."""
        self._timed_at_s = time.monotonic()
        self.is_due = self.is_due_for_top_k = True

    def note_epoch(self, epoch: int) -> None:
        """A save point of an epoch has come."""
        self.is_due = True
        if self.every_n_epochs and (epoch + 1) % self.every_n_epochs == 0:
            self.is_due_for_top_k = True

    def take(self) -> bool:
        """The save that is due is made now. Return whether it takes part in the ranking."""
        for_top_k = self.is_due_for_top_k
        self.is_due = self.is_due_for_top_k = False
        return for_top_k


def _is_positive(interval: object) -> bool:
    return isinstance(interval, timedelta) and interval > timedelta(0)
