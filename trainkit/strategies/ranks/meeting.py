"""At which batch all ranks do what one of them has asked for: stop, leave for a signal, validate by the clock.

Design: docs/design/0014-ranks-agree.md.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from torch.distributed import Store  # type: ignore[attr-defined]  # torch's stubs lack it

from trainkit.strategies.ranks.rank_watch import RankWatch, wait_for

Position = tuple[int, ...]
"""Where a rank stands between two batches, as numbers that only grow."""


class Met(NamedTuple):
    """What came of a meeting.

    Attributes:
        position: Where the ranks have met.
        wishes: What each asks for.
    """

    position: Position
    wishes: list[dict[str, Any]]


class Meeting:
    """Lets all ranks do at the same batch what some have asked for; costs nothing as long as nobody asks.

    A rank that asks tells so in a store, with its position, and waits there. The others learn it within a quarter of a
    second, by the thread that looks where the ranks stand, and tell at their next boundary between two batches where
    they are. For one that waits for other ranks, and so does not come to it, the thread tells the end of the batch
    that is running. The furthest of these positions is where all meet: whoever is not there yet goes on until then.

    Attributes:
        called: Whether some rank has asked. Read at each boundary.
        on_call: Called when another rank has asked.
    """

    def __init__(self, rank: int, world_size: int, store: Store, watch: RankWatch, timeout: timedelta) -> None:
        self.called = False
        self.on_call: Callable[[], object] = bool
        self._rank, self._world_size = rank, world_size
        self._store, self._watch = store, watch
        self._timeout = timeout
        self._round = 0
        self._posted = False
        self._target: Position | None = None
        self._told: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        watch.on_look = self._look

    def come(self, position: Position, wishes: Mapping[str, Any], *, is_end: bool = False) -> Met | None:
        """Tell where this rank is; return what all ranks ask for if this is where they meet, else None.

        Args:
            position: Of the boundary at which this rank stands.
            wishes: What it asks for.
            is_end: Whether it has come to the end of what the last number of the position counts, where other ranks
                may have more.
        """
        if self._target is None:
            with self._lock:
                self._post(position, wishes)
            self._told = self._wait()
            self._target = max(tuple(each["at"]) for each in self._told)
        met = Met(self._target, [each["wishes"] for each in self._told])
        is_there = position >= met.position or (is_end and position[:-1] == met.position[:-1])
        if not is_there:
            return None
        with self._lock:
            self._round += 1
            self.called, self._posted, self._target = False, False, None
        return met

    def _post(self, position: Position, wishes: Mapping[str, Any]) -> None:
        if not self._posted:
            self.called = self._posted = True
            told = json.dumps({"at": position, "wishes": wishes})
            self._store.set(f"{self._round}/{self._rank}", told)
            self._store.set(f"{self._round}", "called")

    def _wait(self) -> list[dict[str, Any]]:
        keys = [f"{self._round}/{rank}" for rank in range(self._world_size)]
        wait_for(self._store, keys, self._watch, "meeting", self._timeout)
        return [json.loads(each) for each in self._store.multi_get(keys)]

    def _look(self, waits: bool) -> None:
        """Learn that another rank has asked, in the thread; answer for a rank that waits and cannot."""
        if self._posted:
            return
        if self.called and waits:
            with self._lock:
                # One batch on, at least as far as its next boundary: the end of the running batch.
                self._post((self._watch.position() + 1,), {})
        elif not self.called and self._store.check([f"{self._round}"]):
            with self._lock:
                self.called = not self._posted
            self.on_call()
