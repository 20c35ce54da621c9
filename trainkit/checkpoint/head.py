"""The head of a checkpoint: which run it belongs to and how far that was, read without its tensors."""

from __future__ import annotations

import os
from typing import Any, BinaryIO, NamedTuple

from trainkit.checkpoint.state import is_resumable
from trainkit.progress import Progress
from trainkit.storage.archive import Archive
from trainkit.storage.layout import misfit
from trainkit.storage.loading import load
from trainkit.storage.remote import fetched, is_remote


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


def read_head(path: str | os.PathLike[str]) -> Head:
    """Return the head of the checkpoint at ``path``. A file that cannot be read is no error: it has an empty one."""
    try:
        with open(path, "rb") as file:
            return _head_in(file)
    except Exception:
        return Head()


def mark_of(path: str) -> str:
    """Return the mark of the run that has written the checkpoint at ``path``; empty if it cannot be told.

    A remote one is fetched for that, as a whole.
    """
    if not is_remote(path):
        return read_head(path).mark
    try:
        with fetched(path) as copy:
            return _head_in(copy).mark
    except Exception:  # as `read_head`
        return ""


def _head_in(file: BinaryIO) -> Head:
    checkpoint = load(Archive(file), with_values=False)
    return Head() if misfit(checkpoint) else head_of(checkpoint)


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
