"""Being told to stop: signals, and ``trainer.should_stop``, are noted, and honoured between two batches."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from trainkit.loops.waiting import Place, place_of, place_of_error
from trainkit.output import say, warn
from trainkit.strategies.base import Strategy
from trainkit.strategies.ranks.places import waits_for_ranks

PATIENCE_S = 8.0
"""How long a signal waits for a batch that is being loaded. Less than what schedulers grant before they kill."""

# Schedulers send SIGTERM before they kill, and SIGUSR1 if they are told to send it earlier (`--signal=USR1@60`).
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]


SHOULD_STOP = "trainer.should_stop"
"""Stands for who asked by that attribute, which does not tell who set it."""


class StopSignal:
    """Who has asked a run to stop: a signal of the operating system, or somebody through ``trainer.should_stop``.

    Ctrl-C surfaces as ``KeyboardInterrupt``, every other signal as ``SystemExit`` with 128 and its number, as what a
    shell sees of a process that the signal ended: 143 for SIGTERM, 138 for SIGUSR1.

    While it waits for workers, a loop is left at once: all is as it was after the batch before. While this process
    itself makes a batch, the loop is left after `PATIENCE_S`: that batch may never come.

    Attributes:
        received: The newest signal; 0 if there was none.
        honoured: Whether a loop was left for it, at a batch boundary.
        asked: Whether somebody asked for an end of training.
        asked_by: Who did: the state key of a plugin, or `SHOULD_STOP`.
        asked_in: In which function ``trainer.should_stop`` was set; empty if nobody did, or in another process.
        on_change: Called when one of these has happened.
        is_whole: Called while the loop waits for a batch: whether a run could continue exactly from there.
    """

    def __init__(self) -> None:
        self.received = 0
        self.honoured = False
        self.asked = False
        self.asked_by = ""
        self.asked_in = ""
        self.on_change: Callable[[], object] = int  # does nothing, until there is a run to be told
        self._outer: StopSignal | None = None  # that of the call in one of whose hooks this one runs
        self._passed_on: BaseException | None = None  # with what a call in a hook of this one was left
        self.is_whole: Callable[[], bool] = lambda: True
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}  # the handlers that were there
        self._tells, self._is_distributed = True, False
        self._heard_s = 0.0  # when the newest signal came
        self._may_come: Callable[[float], bool] = bool  # whether ranks that are waited for may come, after so long
        self._reminder: threading.Thread | None = None
        self._is_reminder = False  # whether the signal that comes next is the reminder's
        self._over = threading.Event()

    def ask(self, asked: bool = True, *, by: str = SHOULD_STOP, place: str = "") -> None:
        """Ask for an end of training, or take that back."""
        self.asked, self.asked_by, self.asked_in = asked, by if asked else "", place if asked else ""
        self.on_change()

    def ask_or_leave(self, asked: bool, *, place: str) -> None:
        """What ``trainer.should_stop = asked`` does, set in the function ``place``: False takes back no stop."""
        if asked:
            self.ask(place=place)
        elif self.asked:
            who = self.asked_in or self.asked_by
            warn(f"trainer.should_stop = False is ignored: {who} has asked for a stop, which stays.", innermost=True)

    def leave_if(self, signal: int) -> None:
        """Leave the loop if a ``signal`` has come, on any rank. For a place between two batches: all is whole there.

        Raises:
            KeyboardInterrupt: After SIGINT.
            SystemExit: After another signal.
        """
        if signal:
            self.honoured = True
            raise self.exception()

    def exception(self) -> BaseException:
        """Return what the signal surfaces as, for this call and for those in whose hooks it runs."""
        error = KeyboardInterrupt() if self.received == signal.SIGINT else SystemExit(128 + self.received)
        outer = self._outer
        while outer is not None:
            outer._passed_on, outer = error, outer._outer
        return error

    def note_exit(self, error: BaseException) -> None:
        """Note that a loop is left with ``error``: maybe for a signal that a call in one of its hooks was left for."""
        self.honoured = self.honoured or (self._passed_on is not None and error is self._passed_on)

    def instead_of(self, error: BaseException) -> BaseException:
        """Return ``error``, or what the signal surfaces as if it is that the workers died of the same signal."""
        # Workers that are only starting may have no protection yet from a signal to all processes of a job.
        died = isinstance(error, RuntimeError) and place_of_error(error) is Place.IDLE
        if not died or not self.received or self.honoured or self._is_distributed:
            return error
        self._leave(exactly=self.is_whole())
        return self.exception()

    @contextmanager
    def listening(self, strategy: Strategy) -> Iterator[None]:
        """Note signals inside, instead of what they do otherwise; the handlers are put back afterwards.

        Only the main thread may set handlers; in any other nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._tells, self._is_distributed = strategy.is_global_zero, strategy.is_distributed
        if strategy.is_distributed:
            self._may_come = strategy.ranks.watch.may_come
        # The handlers that were there, as of a notebook or a server, are theirs again afterwards.
        for number in SIGNALS:
            handler = signal.signal(number, self._note)
            # A handler that was not set from Python cannot be read, and so not be put back.
            self._before[number] = signal.SIG_DFL if handler is None else handler
        outer = getattr(self._before[signal.SIGTERM], "__self__", None)
        if isinstance(outer, StopSignal):
            self._outer, self.received = outer, outer.received
        try:
            yield
        finally:
            try:
                # First, so that no reminder comes when nobody listens any more.
                self._over.set()
                if self._reminder is not None:
                    self._reminder.join()
            finally:  # also if a second Ctrl-C came in between
                for number, handler in self._before.items():
                    signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A forked child, such as one of a pool of the user's, which has inherited the handler and not the run.
            signal.signal(number, self._before[signal.Signals(number)])
            signal.raise_signal(number)
            return
        if self._is_reminder:
            self._is_reminder = False
            self._leave_wait(frame, patient=False)
            return
        is_news = self.received != number
        if number == signal.SIGINT and not is_news:
            self._tell("Leaving at once: what was done since the last save is lost.")
            raise KeyboardInterrupt  # asked twice
        self._hear(number)
        if is_news:
            again = " Press Ctrl-C again to leave at once." if number == signal.SIGINT else ""
            self._tell(f"\n{signal.Signals(number).name}: stopping after the running batch.{again}")
        self._leave_wait(frame, patient=True)
        if self._reminder is None and hasattr(signal, "pthread_kill"):
            self._reminder = threading.Thread(target=self._remind, args=(number,), daemon=True)
            self._reminder.start()

    def _hear(self, number: int) -> None:
        self.received, self._heard_s = number, time.monotonic()
        self.on_change()
        # The calls in whose hooks this one runs are to end too, also if a hook catches what this one ends with.
        if self._outer is not None:
            self._outer._hear(number)

    def _leave_wait(self, frame: FrameType | None, *, patient: bool) -> None:
        """Leave the loop if it waits for a batch, which may never come.

        Args:
            frame: What the signal has interrupted.
            patient: Whether to stay where the run could not continue exactly.
        """
        if self.honoured:
            return
        if self._is_distributed:
            # A rank that left alone would leave the others waiting, unless they have left it.
            # One that is busy comes, if only after a large save.
            if not patient and waits_for_ranks(frame) and not self._may_come(time.monotonic() - self._heard_s):
                raise self.exception()
            return
        place = place_of(frame)
        exactly = place is Place.IDLE and self.is_whole()
        if exactly or (place is not Place.ELSEWHERE and not patient):
            self._leave(exactly)
            raise self.exception()

    def _leave(self, exactly: bool) -> None:
        self.honoured = True
        if not exactly:
            self._tell(
                "The batch that was being loaded is given up. Random numbers that were drawn for it stay drawn, so the "
                "run may not continue bit for bit from here."
            )

    def _remind(self, number: int) -> None:
        """Have the handler called again and again, in the main thread, to see whether it waits for a batch."""
        main = threading.main_thread().ident
        while not self._over.wait(PATIENCE_S):
            self._is_reminder = True
            signal.pthread_kill(main or 0, number)

    def _tell(self, message: str) -> None:
        if self._tells:
            # Stderr may just be written to by what the signal has interrupted.
            with suppress(RuntimeError):
                say(message, err=True)
