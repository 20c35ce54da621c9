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

import torch
from torch import distributed as dist
from torch.distributed import PrefixStore, ProcessGroup  # type: ignore[attr-defined]  # torch's stubs lack one

from trainkit.errors import RankError
from trainkit.reflection import is_ours
from trainkit.strategies.meeting import Meeting
from trainkit.strategies.rank_watch import TO_DO, RankWatch

HEAD_BYTES = 1024
"""What is exchanged at once. More needs a second round, which only the first one can tell."""

LOOK = timedelta(seconds=0.2)
"""How long a wait lasts until signals are handled, and it is asked whether anybody will come."""

_GROUPS: WeakKeyDictionary[ProcessGroup, RankGroup] = WeakKeyDictionary()
"""Of each default process group, the ranks in it. They belong to the process, as torch's groups do."""

_OURS: WeakSet[ProcessGroup] = WeakSet()
"""The default process groups that were started here, and not by a user."""


class RankGroup:
    """Exchanges small values between all ranks, through a process group of its own.

    So an exchange is never mixed up with gradients, or with what a user exchanges. Each brings along what it is for,
    and where ranks exchange different things, all of them raise.

    Args:
        timeout: How long a rank waits for the others at most.

    Attributes:
        watch: Where the ranks stand.
        meeting: At which batch they do what one of them has asked for.
    """

    def __init__(self, timeout: timedelta) -> None:
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        group: Any = dist.new_group(backend="gloo", timeout=timeout)
        self._group = group
        self._store = dist.distributed_c10d._get_default_store()
        # A store may outlive a group, and have what an earlier one has left.
        token = [os.urandom(8).hex()]
        dist.broadcast_object_list(token, src=0, group=group)
        # Connections of their own: an answer that is waited for on one would keep the others waiting.
        watched, met = (
            PrefixStore(f"trainkit/{token[0]}/{name}", self._store.clone()) for name in ("watch", "meeting")
        )
        self.watch = RankWatch(self.rank, self.world_size, watched)
        self.meeting = Meeting(self.rank, self.world_size, met, self.watch)

    @classmethod
    def of_default(cls, timeout: timedelta) -> RankGroup:
        """Return the ranks of the default process group, which every rank has to ask for at the same time at first."""
        default = dist.group.WORLD
        assert default is not None, "there is a process group"
        if default not in _GROUPS:
            _GROUPS[default] = made = cls(timeout)
            atexit.register(made.watch.close)
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
        payload = pickle.dumps((what, why, value))
        self.watch.begin_wait(f"{what}")
        try:
            received = [pickle.loads(each) for each in self._exchange(payload)]
        finally:
            self.watch.end_wait()
        if any(what != others for others, _, _ in received):
            lines = [
                f"    rank {rank:<8} is in {name} after {batches} training batches{why and f': {why}'}"
                for rank, ((name, batches), why, _) in enumerate(received)
            ]
            raise RankError("the ranks do not do the same:\n" + "\n".join(lines) + f"\n{TO_DO}")
        return [value for _, _, value in received]

    def _exchange(self, payload: bytes) -> list[bytes]:
        """Return the payloads of all ranks."""
        sizes = len(payload).to_bytes(8, "big")
        heads = self._all_gather((sizes + payload).ljust(HEAD_BYTES, b"\0")[:HEAD_BYTES])
        lengths = [8 + int.from_bytes(head[:8], "big") for head in heads]
        rest = max(lengths) - HEAD_BYTES
        if rest > 0:
            tails = self._all_gather((sizes + payload)[HEAD_BYTES:].ljust(rest, b"\0"))
            heads = [head + tail for head, tail in zip(heads, tails, strict=True)]
        return [whole[8:length] for whole, length in zip(heads, lengths, strict=True)]

    def _all_gather(self, own: bytes) -> list[bytes]:
        tensor = torch.frombuffer(bytearray(own), dtype=torch.uint8)
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        work: Any = dist.all_gather(parts, tensor, group=self._group, async_op=True)
        while True:
            try:
                work.wait(LOOK)
                return [bytes(part.numpy()) for part in parts]
            except RuntimeError as error:
                if work.is_completed():  # it has failed
                    raise RankError(self.watch.why() or f"an exchange between the ranks has failed: {error}") from error
            # A signal was handled by now, if one came. Python handles none while torch waits.
            self.watch.raise_if_over()


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
