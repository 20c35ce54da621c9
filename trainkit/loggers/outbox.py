"""`Outbox`: sends items from a thread, in their order, so that whoever hands them over never waits and never fails."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, Any

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 30.0
"""How long to wait before an item that could not be sent is tried again: twice as long each time."""


class Outbox:
    """Items on their way to somebody who may be slow, or away.

    What cannot be sent is tried again, ahead of all that came later. So many wait in memory; more of them wait in a
    temporary file, and memory stays bounded.

    Args:
        send: Sends one item. Called in a thread of its own; any exception means that it was not sent.
        most: How many items wait in memory.

    Attributes:
        problem: What went wrong first; empty if nothing did.
    """

    def __init__(self, send: Callable[[Any], None], *, most: int = 10_000) -> None:
        self.problem = ""
        self._send = send
        self._most = most
        self._waiting: deque[Any] = deque()
        self._spool: IO[str] | None = None
        self._spooled = 0  # items in the file that were not read back
        self._read_at = 0
        self._changed = threading.Condition()
        self._ends_at: float | None = None  # until when to try, once nothing more comes
        self._thread: threading.Thread | None = None

    def put(self, item: Any) -> None:
        """Take an item, of numbers, texts, lists and dicts, to be sent."""
        with self._changed:
            # Behind those in the file, until they are read back.
            if self._spooled or len(self._waiting) >= self._most:
                self._put_on_disk(item)
            else:
                self._waiting.append(item)
            if self._thread is None:
                # A daemon: a service that never answers must not keep the program from ending; `finish` waits for it.
                self._thread = threading.Thread(target=self._work, name="trainkit-outbox", daemon=True)
                self._thread.start()
            self._changed.notify()

    def finish(self, patience_s: float) -> list[Any]:
        """Wait until all is sent, for so long at most; return what was not. Items may come again afterwards."""
        with self._changed:
            thread = self._thread
            self._ends_at = time.monotonic() + patience_s
            self._changed.notify()
        if thread is not None:
            thread.join(patience_s)
        with self._changed:
            # A thread that is still within `send` finds nothing left to do when it comes back.
            unsent = list(self._take_all())
            self._thread = self._ends_at = None
        return unsent

    def _work(self) -> None:
        me, pause_s = threading.current_thread(), _FIRST_PAUSE_S
        while True:
            with self._changed:
                while self._thread is me and not self._waiting and not self._spooled and self._ends_at is None:
                    self._changed.wait()
                if self._thread is not me or not self._fill():
                    return
                item = self._waiting[0]
            try:
                self._send(item)
            # It may fail in any way: a network that is away, a service that refuses.
            except Exception as error:
                with self._changed:
                    self.problem = self.problem or f"{type(error).__name__}: {error}"
                    if self._thread is not me or (self._ends_at is not None and time.monotonic() >= self._ends_at):
                        return
                    left_s = _LONGEST_PAUSE_S if self._ends_at is None else self._ends_at - time.monotonic()
                    self._changed.wait(max(0.0, min(pause_s, left_s)))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                pause_s = _FIRST_PAUSE_S
                with self._changed:
                    if self._thread is not me:
                        return
                    self._waiting.popleft()

    def _fill(self) -> bool:
        """Read items back from the file where none wait in memory; return whether there are any."""
        while not self._waiting and self._spooled:
            self._waiting.extend(self._read_back(self._most))
        return bool(self._waiting)

    def _put_on_disk(self, item: Any) -> None:
        if self._spool is None:
            # Closed when all of it is read back. It has no name, so nothing is left of it if the program is killed.
            self._spool = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._spool.seek(0, 2)
        self._spool.write(json.dumps(item) + "\n")
        self._spooled += 1

    def _read_back(self, most: int) -> Iterator[Any]:
        spool = self._spool
        assert spool is not None
        spool.seek(self._read_at)
        lines = [spool.readline() for _ in range(min(most, self._spooled))]
        self._read_at, self._spooled = spool.tell(), self._spooled - len(lines)
        if not self._spooled:
            spool.close()
            self._spool, self._read_at = None, 0
        return map(json.loads, lines)

    def _take_all(self) -> Iterator[Any]:
        while self._waiting or self._spooled:
            if not self._waiting:
                self._fill()
            yield self._waiting.popleft()
