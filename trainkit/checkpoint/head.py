"""The head of a checkpoint: which run it belongs to and how far that was, read without its tensors."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch

from trainkit.checkpoint.state import is_resumable
from trainkit.progress import Progress


class Head(NamedTuple):
    """What is read of a checkpoint to choose between several.

    Attributes:
        run: The name of its run, which is that of its newest state below ``default_root_dir``; empty if it has none, as
            in files of earlier versions and other frameworks.
        position: How far the run was; see `Progress.position`.
        resumable: Whether a fit can continue from it.
        readable: Whether it could be read at all.
        epoch: The epoch in which it was saved; None if it could not be read.
    """

    run: str = ""
    position: tuple[int, ...] = ()
    resumable: bool = False
    readable: bool = False
    epoch: int | None = None


def read_head(path: str | os.PathLike[str]) -> Head:
    """Return the head of the checkpoint at ``path``. A file that cannot be read is no error: it has an empty one."""
    try:
        # Mapped into memory, so that no tensor is read from the disk; and so no checksum is looked at.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return head_of(checkpoint)
    except Exception:
        return Head()


def head_of(checkpoint: dict[str, Any]) -> Head:
    """Return the head of a checkpoint that was read."""
    progress = Progress(epoch=checkpoint.get("epoch", 0), global_step=checkpoint.get("global_step", 0))
    progress.load_state_dict(checkpoint.get("loops", {}).get("fit", {}))
    keeper = checkpoint.get("callbacks", {}).get("LastCheckpoint", {})
    return Head(str(keeper.get("run", "")), progress.position, is_resumable(checkpoint), True, checkpoint.get("epoch"))
