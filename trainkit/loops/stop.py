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


class StopSignal:
    """Who has asked a run to stop: a signal of the operating system, or somebody through ``trainer.should_stop``.

    Ctrl-C surfaces as ``KeyboardInterrupt``, every other signal as ``SystemExit`` with 128 and its number, as what a
    shell sees of a process that the signal ended: 143 for SIGTERM, 138 for SIGUSR1.

    Attributes:
        received: The newest signal; 0 if there was none.
        honoured: Whether a loop was left for it, at a batch boundary.
        asked: Whether somebody asked for an end of training.
        on_change: Called when one of these has happened.
    """

    def __init__(self) -> None:
        self.received = 0
        self.honoured = False
        self.asked = False
        self.on_change: Callable[[], object] = int  # does nothing, until there is a run to be told

    def ask(self, asked: bool = True) -> None:
        """Ask for an end of training, or take that back."""
        self.asked = asked
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
        """Return what the signal surfaces as."""
        return KeyboardInterrupt() if self.received == signal.SIGINT else SystemExit(128 + self.received)

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
        try:
            yield
        finally:
            for number, handler in before.items():
                # A handler that was not set from Python cannot be read, and so not be put back.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: leave at once
        self.received = number
        self.on_change()
        name = signal.Signals(number).name
        again = " Press Ctrl-C again to leave at once." if number == signal.SIGINT else ""
        say(f"\n{name}: stopping after the running batch.{again}", err=True)
