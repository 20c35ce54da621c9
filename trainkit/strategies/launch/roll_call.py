"""The roll call: how ranks that find each other in a store know who is there now, and not of an earlier start."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta

from torch.distributed import Store  # type: ignore[attr-defined]  # torch's stubs lack it

from trainkit.errors import RankError
from trainkit.strategies.launch.os_process import began_at_s

_LONGEST_PAUSE_S = 0.05


def call_roll(store: Store, rank: int, world_size: int, timeout: timedelta) -> str:
    """Wait until all ranks have come, and return a word that they share, and that nobody has used before.

    torchrun may keep one store for all restarts of a job, with what the ranks of before have written. How often it has
    restarted them does not tell which is which: each machine counts for itself (pytorch#135712). So each process gives
    itself a name. Rank 0 writes the names down, anew when another process comes for a rank, and each rank answers when
    it reads its own.

    Args:
        store: Where they meet.
        rank: The number of this process.
        world_size: How many there are.
        timeout: How long to wait for all.

    Raises:
        RankError: If not all have come, or one has told that it will not.
    """
    name, deadline_s, pause_s = os.urandom(8).hex(), time.monotonic() + timeout.total_seconds(), 0.001
    store.set(f"here/{rank}", name)
    while True:
        missing = _call(store, name, world_size) if rank == 0 else []
        word = _answer(store, rank, name) if rank != 0 else "" if missing else name
        if word:
            return word
        _refuse_ended(store, rank, world_size, missing or [0])
        if time.monotonic() > deadline_s:
            who = f"rank(s) {', '.join(map(str, missing))}" if missing else "rank 0, or for one that it waits for,"
            raise RankError(
                f"rank {rank} of {world_size} has waited {timeout.total_seconds():g} s for {who} and nobody came.\n"
                "    to do        start all ranks, with the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE"
            )
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def tell_end(store: Store, rank: int) -> None:
    """Tell those who wait for ``rank`` that its program ends, and that it will not come."""
    store.set(f"ended/{rank}", str(time.time()))


def _refuse_ended(store: Store, rank: int, world_size: int, missing: list[int]) -> None:
    """Raise if one of the ranks that are ``missing`` has ended its program since this one began."""
    # What ranks of an earlier start have told is older: torchrun ends all of them before it starts any.
    ended = [each for each in missing if float(_read(store, f"ended/{each}") or 0) > began_at_s()]
    if rank not in ended and ended:
        raise RankError(
            f"rank {rank} of {world_size} waits for rank(s) {', '.join(map(str, ended))}, whose program has ended "
            "without a call of the Trainer.\n"
            "    to do        let all ranks make the same calls (fit, test ...), none behind `if is_global_zero:`"
        )


def _call(store: Store, name: str, world_size: int) -> list[int]:
    """Write down who is there, as rank 0, which is called ``name``; return the ranks that are missing."""
    names = [_read(store, f"here/{rank}") for rank in range(world_size)]
    if not all(names):
        return [rank for rank in range(world_size) if not names[rank]]
    roll = json.dumps(names)
    if roll != _read(store, "roll"):
        store.set("roll", roll)
    # One that does not answer is not there any more; another process may come for it.
    return [rank for rank in range(1, world_size) if not _read(store, f"answer/{name}/{names[rank]}")]


def _answer(store: Store, rank: int, name: str) -> str:
    """Return the name of the rank 0 that has read this rank's ``name``, and let it know; empty if none has yet."""
    names = json.loads(_read(store, "roll") or "[]")
    if names[rank : rank + 1] != [name]:
        return ""  # what a rank 0 of before has written
    store.set(f"answer/{names[0]}/{name}", "yes")
    return str(names[0])


def _read(store: Store, key: str) -> str:
    """Return what is at ``key``; empty if nothing is there yet."""
    return store.get(key).decode() if store.check([key]) else ""
