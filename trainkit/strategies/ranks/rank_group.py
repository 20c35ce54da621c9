"""The ranks of a run as one: how they exchange what is small, and how each knows that the others do the same."""

from __future__ import annotations

import atexit
import os
import pickle
import sys
from datetime import timedelta
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from torch import distributed as dist
from torch.distributed import PrefixStore, ProcessGroup  # type: ignore[attr-defined]  # torch's stubs lack one

from trainkit.errors import RankError
from trainkit.reflection import is_ours
from trainkit.strategies.ranks.board import Board
from trainkit.strategies.ranks.meeting import Meeting
from trainkit.strategies.ranks.places import caller_of
from trainkit.strategies.ranks.rank_watch import TO_DO, RankWatch, wait_for

SMALL_BYTES = 1 << 18
"""What a rank sends through the store at most. More goes through torch's own collective, when all are there for it."""

_GROUPS: WeakKeyDictionary[ProcessGroup, RankGroup] = WeakKeyDictionary()
"""Of each default process group, the ranks in it. They belong to the process, as torch's groups do."""

_STORES: list[Any] = []
"""The stores of all groups: one that this process holds is to last as long as the process, for others to read."""

_OURS: WeakSet[ProcessGroup] = WeakSet()
"""The default process groups that were started here, and not by a user."""


class RankGroup:
    """Exchanges small values between all ranks, through the store in which they have found each other.

    So an exchange is never mixed up with gradients, or with what a user exchanges, and a wait for a rank that does not
    come can be ended, which torch's collectives offer no way for. Each exchange says what it is for, and where ranks
    want different ones, all of them raise. Design: docs/design/0014-ranks-agree.md.

    Args:
        timeout: How long a rank waits for the others at most.

    Attributes:
        watch: Where the ranks stand.
        meeting: At which batch they do what one of them has asked for.
    """

    def __init__(self, timeout: timedelta) -> None:
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self._timeout = timeout
        self._base = dist.distributed_c10d._get_default_store()
        # A store may outlive a group, and have what an earlier one has left.
        token = [os.urandom(8).hex()]
        dist.broadcast_object_list(token, src=0)
        # Connections of their own: an answer that is waited for on one keeps the others waiting.
        self._store, met, watched, self._boards = (
            PrefixStore(f"trainkit/{token[0]}/{name}", self._base.clone())
            for name in ("values", "meeting", "watch", "boards")
        )
        self.watch = RankWatch(self.rank, self.world_size, watched)
        self.meeting = Meeting(self.rank, self.world_size, met, self.watch, timeout)
        self._number = 0  # of the newest exchange
        self._num_boards = 0
        self._noted = 0  # how many notes were left
        self._cpu_group: Any = None

    @classmethod
    def of_default(cls, timeout: timedelta) -> RankGroup:
        """Return the ranks of the default process group, which every rank has to ask for at the same time at first."""
        default = dist.group.WORLD
        assert default is not None, "there is a process group"
        if default not in _GROUPS:
            _GROUPS[default] = made = cls(timeout)
            # In the reverse order: first told, then waited for those who read it. With the store, which is theirs too.
            atexit.register(made.watch.let_others_read)
            atexit.register(made.watch.close)
            _STORES.append(made._base)
        return _GROUPS[default]

    def gather(self, value: Any, why: str = "") -> list[Any]:
        """Return the values of all ranks, in their order. They are sent by pickle.

        Args:
            value: The value of this rank.
            why: What has led here, where that is not the same on all ranks.

        Raises:
            RankError: If the ranks are not all about to exchange the same, or one has left.
        """
        what = (_purpose(), self.watch.position())
        payload = pickle.dumps(value)
        is_small = len(payload) <= SMALL_BYTES
        told = self._exchange(str(what), why, pickle.dumps((what, why, payload if is_small else None)))
        if any(what != others for others, _, _ in told):
            # Who has led there is looked for only now: all ranks come to this, as each has seen what the others want.
            callers = self._exchange("places", "", pickle.dumps(caller_of(sys._getframe(1))))
            lines = [
                f"    rank {rank:<8} is in {name}{caller} after {batches} training batches{why and f': {why}'}"
                for rank, (((name, batches), why, _), caller) in enumerate(zip(told, callers, strict=True))
            ]
            raise RankError("the ranks do not do the same:\n" + "\n".join(lines) + f"\n{TO_DO}")
        if all(each is not None for _, _, each in told):
            return [pickle.loads(each) for _, _, each in told]
        # All are here, and about to do the same.
        values = [value] * self.world_size
        dist.all_gather_object(values, value, group=self._group_of_cpus())
        return values

    def open_board(self) -> Board:
        """Return a board on which the threads of all ranks tell rank 0 one thing. Every rank has to ask for it."""
        self._num_boards += 1
        return Board(PrefixStore(str(self._num_boards), self._boards), self.watch)

    def notes(self, note: str) -> list[str] | None:
        """Leave a note for the other ranks; return the earlier notes of all, or None if some rank has yet to leave it.

        Nobody waits. All ranks leave equally many.
        """
        self._noted += 1
        keys = [f"note {self._noted - 1}/{rank}" for rank in range(self.world_size)]
        self._store.set(f"note {self._noted}/{self.rank}", note)
        if self._noted == 1 or not self._store.check(keys):
            return None
        earlier = [each.decode() for each in self._store.multi_get(keys)]
        self._store.delete_key(f"note {self._noted - 2}/{self.rank}")  # which all have read, or never will
        return earlier

    def _exchange(self, label: str, why: str, own: bytes) -> list[Any]:
        """Return what all ranks have sent."""
        self._number += 1
        keys = [f"{self._number}/{rank}" for rank in range(self.world_size)]
        self._store.set(keys[self.rank], own)  # type: ignore[arg-type]  # torch's stubs lack bytes
        wait_for(self._store, keys, self.watch, label, self._timeout, why)
        told = [pickle.loads(each) for each in self._store.multi_get(keys)]
        # Who has come to this exchange has read the one before.
        self._store.delete_key(f"{self._number - 1}/{self.rank}")
        return told

    def _group_of_cpus(self) -> Any:
        """Return a process group that takes what is in the memory of the CPU. All ranks ask for it together."""
        if dist.get_backend() != "gloo" and self._cpu_group is None:
            self._cpu_group = dist.new_group(backend="gloo", timeout=self._timeout)
        return self._cpu_group


def _purpose() -> str:
    """Return what an exchange is for, as all ranks know it: the functions of trainkit that have led to it."""
    frame: FrameType | None = sys._getframe(2)
    names: list[str] = []
    while frame is not None and is_ours(frame) and len(names) < 3:
        names.append(frame.f_code.co_qualname.rpartition("<locals>.")[2])
        frame = frame.f_back
    return " <- ".join(names)


def start_default_group(**arguments: Any) -> None:
    """Start the default process group, which ends with the program at the latest."""
    dist.init_process_group(**arguments)
    _OURS.add(dist.group.WORLD)  # type: ignore[arg-type]  # there is one now
    atexit.unregister(end_default_group)  # never twice
    atexit.register(end_default_group)


def end_default_group() -> None:
    """End the default process group, unless a user has started it, and what was made beside it."""
    default = dist.group.WORLD if dist.is_initialized() else None
    if default is None:
        return
    ranks = _GROUPS.pop(default, None)
    if ranks is not None:
        atexit.unregister(ranks.watch.close)
        ranks.watch.close(then="")
    if default in _OURS:
        dist.destroy_process_group()
