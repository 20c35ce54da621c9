"""The head of a checkpoint: which run it belongs to and how far that was, read without its tensors."""

from __future__ import annotations

import math
import os
import pickletools
import struct
from itertools import islice
from typing import Any, NamedTuple

from trainkit.checkpoint.state import is_resumable
from trainkit.progress import Progress
from trainkit.storage.files import read_form
from trainkit.storage.regular import open_regular
from trainkit.storage.remote import FilePath, is_remote
from trainkit.storage.sharded.names import STATE

_PEEKED_BYTES = 512
_HEADER_BYTES = 30
_VALUES = ("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1")


class Head(NamedTuple):
    """What is read of a checkpoint to choose between several.

    Attributes:
        run: The name of its run, which is that of its newest state below ``default_root_dir``; empty if it has none, as
            in files of earlier versions and other frameworks.
        mark: A random text that all checkpoints of a run hold, and of those that went on from it; empty if it has none.
        position: How far the run was; see `Progress.position`.
        epoch: The epoch in which it was saved; None if it could not be read.
        global_step: How many updates it had made.
        resumable: Whether a fit can continue from it.
        readable: Whether it could be read at all.
    """

    run: str = ""
    mark: str = ""
    position: tuple[int, ...] = ()
    epoch: int | None = None
    global_step: int = 0
    resumable: bool = False
    readable: bool = False

    @property
    def made(self) -> tuple[float, float]:
        """How many updates and epochs were made; see `peek`."""
        return self.global_step, self.epoch or 0


def peek(path: str) -> tuple[float, float]:
    """Return how many updates and epochs a checkpoint says it has made, from its first bytes alone.

    It is what most files of a folder are told apart by, for a hundredth of what `read_head` takes. Nothing is checked.
    Of a file that begins in another way than those of trainkit it is as much as there can be.
    """
    try:
        with open_regular(os.path.join(path, STATE) if os.path.isdir(path) else path) as file:
            start = file.read(_PEEKED_BYTES)
        # Behind the header of the first part of the archive, its name and padding, comes the pickle.
        pickled = start[_HEADER_BYTES + sum(struct.unpack_from("<HH", start, _HEADER_BYTES - 4)) :]
        found = (value for operation, value, _ in pickletools.genops(pickled) if operation.name in _VALUES)
        epochs, epoch, updates, global_step = islice(found, 4)
    except (OSError, ValueError, struct.error):
        return math.inf, math.inf
    if (epochs, updates) == ("epoch", "global_step") and isinstance(epoch, int) and isinstance(global_step, int):
        return global_step, epoch
    return math.inf, math.inf


def read_head(path: str | os.PathLike[str]) -> Head:
    """Return the head of the checkpoint at ``path``. A file that cannot be read is no error: it has an empty one.

    So has a remote one, which would have to be fetched as a whole.
    """
    return Head() if is_remote(path) else _head_at(path)


def mark_of(path: str) -> str:
    """Return the mark of the run that has written the checkpoint at ``path``; empty if it cannot be told.

    A remote one is fetched for that, as a whole.
    """
    return _head_at(path).mark


def _head_at(path: FilePath) -> Head:
    try:
        return head_of(read_form(path))
    except Exception:  # what is in a file may be made up, and fail in any way
        return Head()


def head_of(checkpoint: dict[str, Any]) -> Head:
    """Return the head of a checkpoint that was read."""
    progress = Progress(epoch=checkpoint.get("epoch", 0), global_step=checkpoint.get("global_step", 0))
    progress.load_state_dict(checkpoint.get("loops", {}).get("fit", {}))
    return Head(
        run=str(checkpoint.get("trainkit", {}).get("run", "")),
        mark=str(checkpoint.get("trainkit", {}).get("mark", "")),
        position=progress.position,
        epoch=checkpoint.get("epoch"),
        global_step=progress.global_step,
        resumable=is_resumable(checkpoint),
        readable=True,
    )
