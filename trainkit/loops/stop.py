"""Being told to stop: signals, and ``trainer.should_stop``, are noted, and honoured at the next batch boundary."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from trainkit.storage.output import say
from trainkit.strategies.base import Strategy

# Schedulers send SIGTERM before they kill, and SIGUSR1 if they are told to send it earlier (`--signal=USR1@60`).
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]


SHOULD_STOP = "trainer.should_stop"
"""Stands for who asked by that attribute, which does not tell who set it."""


class StopSignal:
    """Who has asked a run to stop: a signal of the operating system, or somebody through ``trainer.should_stop``.

    Ctrl-C surfaces as ``KeyboardInterrupt``, every other signal as ``SystemExit`` with 128 and its number, as what a
    shell sees of a process that the signal ended: 143 for SIGTERM, 138 for SIGUSR1.

    Attributes:
        received: The newest signal; 0 if there was none.
        honoured: Whether a loop was left for it, at a batch boundary.
        asked: Whether somebody asked for an end of training.
        asked_by: Who did: the state key of a plugin, or `SHOULD_STOP`.
        on_change: Called when one of these has happened.
    """

    def __init__(self) -> None:
        self.received = 0
        self.honoured = False
        self.asked = False
        self.asked_by = ""
        self.on_change: Callable[[], object] = int  # does nothing, until there is a run to be told
        self._outer: StopSignal | None = None  # that of the call in one of whose hooks this one runs
        self._passed_on: BaseException | None = None  # with what a call in a hook of this one was left

    def ask(self, asked: bool = True, *, by: str = SHOULD_STOP) -> None:
        """Ask for an end of training, or take that back."""
        self.asked, self.asked_by = asked, by if asked else ""
        self.on_change()

    def check(self, strategy: Strategy) -> None:
        """Leave the loop if a signal has come, on any rank. Call it between two batches: everything is whole there.

        Raises:
            KeyboardInterrupt: After SIGINT.
            SystemExit: After another signal.
        """
        if strategy.is_distributed:
            # A rank that left alone would leave the others waiting.
            self.received = max(strategy.all_gather_object(self.received))
        if self.received:
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

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals inside, instead of what they do otherwise; the handlers are put back afterwards.

        Only the main thread may set handlers; in any other nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # The handlers that were there, as of a notebook or a server, are theirs again afterwards.
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        outer = getattr(before[signal.SIGTERM], "__self__", None)
        if isinstance(outer, StopSignal):
            self._outer, self.received = outer, outer.received
        try:
            yield
        finally:
            for number, handler in before.items():
                # A handler that was not set from Python cannot be read, and so not be put back.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: leave at once
        self._hear(number)
        name = signal.Signals(number).name
        again = " Press Ctrl-C again to leave at once." if number == signal.SIGINT else ""
        say(f"\n{name}: stopping after the running batch.{again}", err=True)

    def _hear(self, number: int) -> None:
        self.received = number
        self.on_change()
        # The calls in whose hooks this one runs are to end too, also if a hook catches what this one ends with.
        if self._outer is not None:
            self._outer._hear(number)
