"""What tells a rank that waits that nobody will come: a thread that looks where the ranks stand, and a store."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn

from torch.distributed import Store  # type: ignore[attr-defined]  # torch's stubs lack it

from trainkit.errors import RankError
from trainkit.output import say
from trainkit.strategies.launch.environment import is_agents_store
from trainkit.strategies.launch.os_process import Process
from trainkit.strategies.ranks.places import AHEAD, GRADIENTS, PARAMETERS, place_of

TICK_S = 0.25
"""How often the thread looks."""

STILL_S = 3.0
"""After how long all ranks are taken to wait for each other, if none of them has moved."""

PATIENCE_S = 8.0
"""How long a rank may wait on after a signal, or when it is known that nobody will come, before its process is ended.

For a wait within torch, which no exception can reach; less than what schedulers grant before they kill.
"""

LONG_PATIENCE_S = 60.0
"""The same where another rank is merely busy, with a large save perhaps: it comes, and then all leave together."""

BEAT_S = 5.0
"""How often a rank that does not wait tells that it is there."""

SILENT_S = 120.0
"""After how long a rank on another machine of which nothing is heard is taken to have ended."""

TO_DO = (
    "    to do        let all ranks do the same: save, stop, skip and log on every rank, with equally many batches;\n"
    "                 decide with trainer.strategy.any_rank(...) or trainer.strategy.agreed(...). Call\n"
    "                 save_checkpoint() on every rank: rank 0 alone writes. With nccl, TORCH_FR_BUFFER_SIZE=2000\n"
    "                 torchrun ... keeps torch's flight recorder, which torchfrtrace reads"
)


class RankWatch:
    """Looks where the ranks stand while one of them waits.

    A rank that waits tells so in a store, where all can read it; one that does not wait costs nothing but a look at its
    own frames. A wait is over if the rank that is waited for has left the call, or if all ranks wait and none of them
    for the same: then `verdict` says where each stands.

    Args:
        rank: This rank.
        world_size: How many there are.
        store: Where ranks read what others have written; an own connection.

    Attributes:
        verdict: Why nobody will come; empty as long as somebody may.
        is_inside: Whether this rank is in a call of the Trainer.
        position: Gives how many training batches this rank has done.
        exchanges: Whether the backward that may be running waits for other ranks.
        joined: Gives the names of the plugins that join a hook.
        on_look: Called at every look, with whether this rank has waited since the look before.
    """

    def __init__(self, rank: int, world_size: int, store: Store) -> None:
        self.verdict = ""
        self.position: Callable[[], int] = int
        self.exchanges: Callable[[], bool] = bool
        self.joined: Callable[[str], list[str]] = list
        self.on_look: Callable[[bool], object] = bool
        self.rank, self.world_size = rank, world_size
        self._store = store
        self._thread_id = threading.get_ident()
        self._call, self.is_inside, self._gone = 0, False, False
        self._label = self._why = ""  # of the exchange in which this rank waits
        self._process = Process.this()
        self._text, self._left = "has not begun", ""  # where it is; how it has left its newest call
        self._key: object = None  # what this rank waits for, as long as that is the same
        self._since_s, self._told = 0.0, False
        self._beat = 0  # changes with each look at a wait, so that others see that it still lasts
        self._others: dict[int, dict[str, Any]] = {}
        self._beats: dict[int, int] = {}  # those of the others when they were last seen to move
        self._heard: dict[int, tuple[int, float]] = {}  # the newest beat of each of the others, and when it was seen
        self._told_at_s = 0.0
        self._all_beat = False
        self._unmoved_since_s = 0.0
        self._signals: socket.socket | None = None
        self._signal, self._signal_at_s, self._cpu_s = 0, 0.0, 0.0
        self._over = threading.Event()
        self._publish()
        self._thread = threading.Thread(target=self._run, name="trainkit-ranks", daemon=True)
        self._thread.start()

    # What the rank itself tells

    def begin_call(self, what: str) -> None:
        """A call of the Trainer begins, such as ``fit``."""
        self._thread_id = threading.get_ident()
        self._call, self.is_inside, self._text, self._told = self._call + 1, True, f"is in trainer.{what}()", False
        self._publish()

    def leave_call(self, text: str) -> None:
        """The call has ended; ``text`` says how, unless that has been told."""
        if self.is_inside:
            self.is_inside, self._told, self._text, self._left = False, False, text, text
            with suppress(Exception):  # the store may be gone with the rank that held it: then the others know
                self._publish()

    @contextmanager
    def waiting(self, label: str, why: str = "") -> Iterator[None]:
        """Return a context in which this rank waits in an exchange of trainkit's own, known to all by ``label``.

        Args:
            label: What is exchanged.
            why: What has led this rank there, for errors.
        """
        self._label, self._why = label, why
        try:
            yield
        finally:
            self._label = self._why = ""

    @contextmanager
    def hearing_signals(self) -> Iterator[None]:
        """Return a context in which the thread hears of signals: while torch waits, Python handles none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard, told = socket.socketpair()
        with heard, told:
            heard.setblocking(False)
            told.setblocking(False)
            before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
            self._signals = heard
            try:
                yield
            finally:
                self._signals = None
                signal.set_wakeup_fd(before)

    def raise_if_over(self) -> None:
        """End a wait for which nobody will come.

        Raises:
            RankError: Says where each rank stands.
        """
        if self.verdict:
            raise RankError(self.verdict)

    def why(self) -> str:
        """Return why an exchange may have failed: what is known of ranks that have left; empty if that is nothing."""
        deadline = time.monotonic() + 4 * TICK_S
        is_lost = False
        while not self.verdict and not is_lost and time.monotonic() < deadline:
            try:
                self._read()
                self._find_leavers()
            except Exception:
                is_lost = True  # with the process that held the store
            time.sleep(TICK_S / 5)
        if is_lost and not self.verdict and self.rank != 0 and not is_agents_store():
            first = self._others.get(0)
            if first is not None:
                self._look_for(0, first)
            place = "its end was not heard" if first is None else first["place"]
            self._decide(f"rank 0 has ended, and with it the store in which ranks meet.\n    rank 0        {place}")
        return self.verdict

    def may_come(self, waited_s: float) -> bool:
        """Return whether a rank for which this one has waited so long is busy, as far as is known, and so may come."""
        busy = (each["inside"] and not each["gone"] and not each["waits"] for each in self._others.values())
        return not self.verdict and waited_s < LONG_PATIENCE_S and any(busy)

    def close(self, then: str = ", and its program has ended") -> None:
        """This rank leaves for good: nobody is to wait for it any more."""
        self._over.set()
        self._thread.join()
        if self._gone:
            return
        self._gone, self._told, self._text = True, False, self._text + then
        with suppress(Exception):  # the store may be gone with another rank
            self._publish()

    def let_others_read(self) -> None:
        """Wait a while for the others to leave, at the end of the program, if that holds the store.

        Otherwise they would not learn why this rank has left, and torch complains of a store that is gone.
        """
        if self.rank != 0 or is_agents_store():
            return
        deadline_s = time.monotonic() + PATIENCE_S / 2
        with suppress(Exception):
            while time.monotonic() < deadline_s:
                self._read()
                if self._others and all(
                    other["gone"] or Process(*other["process"]).has_ended() for other in self._others.values()
                ):
                    return
                time.sleep(TICK_S / 10)

    # The thread

    def _run(self) -> None:
        while not self._over.wait(TICK_S):
            try:
                self._look()
            # The rank that held the store has ended. Its sockets are closed, so nobody waits for it.
            except Exception:
                return

    def _hear(self) -> None:
        """Note a signal that asks to end, also one that Python cannot handle yet."""
        signals = self._signals
        if signals is not None:
            with suppress(OSError):  # none has come, or the call has just ended
                for number in signals.recv(64):
                    if number in (signal.SIGINT, signal.SIGTERM):
                        self._signal, self._signal_at_s, self._cpu_s = number, time.monotonic(), time.process_time()

    def _look(self) -> None:
        self._hear()
        place = place_of(sys._current_frames().get(self._thread_id), exchanges=self.exchanges())
        key = (place, self._label, self.position()) if place.waits or self._label else None
        is_same = key is not None and key == self._key
        if not is_same:
            self._key, self._since_s = key, time.monotonic()
        if self.verdict:
            if is_same:
                self._end_if_hopeless(time.monotonic())
            return  # the store may be gone with another rank
        self.on_look(is_same)
        if not is_same:
            if self._told or time.monotonic() - self._told_at_s > BEAT_S:
                self._told = False
                self._beat += 1
                self._publish()
            return
        after = (
            f", after {self.position()} training batches" if self.is_inside else self._left and f", and {self._left}"
        )
        self._text = place.text + after + (self._why and f": {self._why}")
        self._told = True
        self._beat += 1
        self._publish()
        now_s = time.monotonic()
        if now_s - self._since_s > 2 * TICK_S:
            self._read()
            self._find_leavers()
            if now_s - max(self._since_s, self._unmoved_since_s) > STILL_S:
                self._find_deadlock()
        self._end_if_hopeless(now_s)

    def _publish(self) -> None:
        told = {
            "call": self._call,
            "inside": self.is_inside,
            "gone": self._gone,
            "waits": self._told and self._waits_for(),
            "place": self._text,
            "beat": self._beat,
            "verdict": self.verdict,
            "process": self._process,
        }
        self._told_at_s = time.monotonic()
        self._store.set(f"rank_{self.rank}", json.dumps(told))

    def _waits_for(self) -> str:
        """Return what this rank waits for, as all ranks know it."""
        by_all = (text for text in (GRADIENTS, PARAMETERS, AHEAD) if self._text.startswith(text))
        return self._label or next(by_all, "an exchange of torch")

    def _read(self) -> None:
        """Read what the others have told, and note whether one of them has moved."""
        keys = {rank: f"rank_{rank}" for rank in range(self.world_size) if rank != self.rank}
        if not self._store.check(list(keys.values())):
            return
        values = self._store.multi_get(list(keys.values()))
        told = {rank: json.loads(value) for rank, value in zip(keys, values, strict=True)}
        beats = {rank: each.pop("beat") for rank, each in told.items()}
        now_s = time.monotonic()
        heard = {rank: self._heard.get(rank) for rank in beats}
        self._heard = {
            rank: known if known is not None and known[0] == beats[rank] else (beats[rank], now_s)
            for rank, known in heard.items()
        }
        if told != self._others:
            self._others, self._beats, self._unmoved_since_s = told, beats, time.monotonic()
        # One whose thread does not come to tell may have gone on.
        self._all_beat = all(beats[rank] > self._beats[rank] for rank in beats)

    def _find_leavers(self) -> None:
        """Find out whether some rank has left the call in which this one waits, or has ended."""
        for rank, other in self._others.items():
            self._look_for(rank, other)
        left = [
            rank
            for rank, other in self._others.items()
            if other["gone"]
            or (
                self.is_inside
                and (other["call"], other["inside"]) != (self._call, True)
                and other["call"] >= self._call
            )
        ]
        passed_on = next((self._others[rank]["verdict"] for rank in left if self._others[rank]["verdict"]), "")
        if passed_on:
            self.verdict = passed_on
        elif left:
            own = self._text if self._told else "cannot go on"
            places = "\n".join(f"    rank {rank:<8} {self._others[rank]['place']}" for rank in left)
            self._decide(f"rank {self.rank} {own}, and nobody will come.\n{places}")

    def _look_for(self, rank: int, other: dict[str, Any]) -> None:
        """Note that a rank is gone that has ended without a word: killed, by ``os._exit``, or with its machine."""
        if other["gone"]:
            return
        if Process(*other["process"]).has_ended():
            # Where it was heard last says nothing of where it was then.
            other["gone"], other["place"] = True, "its process has ended without a word: it was killed, or crashed"
            return
        elif rank in self._heard and time.monotonic() - self._heard[rank][1] > SILENT_S:
            other["gone"], how = True, f"nothing was heard of it for {SILENT_S:g} s"
        if other["gone"]:
            other["place"] = f"{other['place']}; {how}"

    def _find_deadlock(self) -> None:
        """Find out whether all ranks wait, and for different things."""
        told = [{"waits": self._waits_for(), "place": self._text}, *self._others.values()]
        # In one exchange together they only need long. What a user exchanges in torch may be that of some ranks only.
        if not self._all_beat or len({each["waits"] for each in told}) == 1 or not all(each["waits"] for each in told):
            return
        places = {self.rank: self._text, **{rank: other["place"] for rank, other in self._others.items()}}
        lines = "\n".join(f"    rank {rank:<8} {places[rank]}" for rank in sorted(places))
        self._decide(f"the ranks wait for each other, and none can go on:\n{lines}")

    def _decide(self, verdict: str) -> None:
        self.verdict = f"{verdict}\n{TO_DO}"

    def _end_if_hopeless(self, now_s: float) -> None:
        """End the process if nothing else can: it waits within torch, for nobody."""
        if self._label:
            return  # an own wait ends by itself
        if self.verdict and now_s - self._since_s > STILL_S + PATIENCE_S:
            self._end(f"RankError: {self.verdict}", 1)
        waited_s = now_s - max(self._signal_at_s, self._since_s)
        # One that computes, as backward may on a CPU, comes to the end of its batch, and leaves there.
        is_idle = time.process_time() - self._cpu_s < 0.2 * (now_s - self._signal_at_s)
        if self._signal and waited_s > PATIENCE_S and is_idle and not self.may_come(waited_s):
            self._end(f"{signal.Signals(self._signal).name}: rank {self.rank} {self._text}", 128 + self._signal)

    def _end(self, why: str, code: int) -> NoReturn:
        self._gone, self._text = True, f"{self._text}, until its process was ended, with exit code {code}"
        with suppress(Exception):  # the store may be gone
            self._publish()
        say(f"trainkit: {why}\nRank {self.rank} is ended: nothing can reach it there.", err=True)
        os._exit(code)


def wait_for(store: Store, keys: list[str], watch: RankWatch, label: str, timeout: timedelta, why: str = "") -> None:
    """Wait until all ``keys`` are in ``store``, as long as somebody may write them.

    Raises:
        RankError: If nobody will, or has within ``timeout``.
    """
    began_s, pause_s = time.monotonic(), 0.0001
    with watch.waiting(label, why):
        # Not `store.wait()`: torch warns of each time that it was in vain, and Python handles no signal in it.
        while not store.check(keys):
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.01)
            watch.raise_if_over()
            if time.monotonic() - began_s > timeout.total_seconds():
                raise RankError(f"rank {watch.rank} has waited {timeout.total_seconds():g} s in {label}.\n{TO_DO}")
