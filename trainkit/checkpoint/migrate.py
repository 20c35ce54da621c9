"""Checkpoints of older formats, and of Lightning, brought to the present format when they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainkit.checkpoint.lightning import from_lightning, is_from_lightning
from trainkit.checkpoint.state import FORMAT
from trainkit.errors import CheckpointError

Checkpoint = dict[str, Any]


def migrate(checkpoint: Checkpoint, path: object) -> Checkpoint:
    """Return ``checkpoint``, which was read from ``path``, in the present format. The file stays as it is.

    Raises:
        CheckpointError: If it is of a newer format than this version knows.
    """
    if is_from_lightning(checkpoint):
        return from_lightning(checkpoint)
    own = checkpoint.get("trainkit")
    if not isinstance(own, dict) or "format" not in own:
        return checkpoint
    found = own["format"]
    if found > FORMAT:
        raise CheckpointError(
            f"{path} has format {found}, written by trainkit {own['version']}, and this version reads formats up to "
            f"{FORMAT}. Update trainkit."
        )
    for step in _STEPS[found - 1 :]:
        checkpoint = step(checkpoint)
        checkpoint["trainkit"]["format"] += 1
    return checkpoint


def _per_rank(checkpoint: Checkpoint) -> Checkpoint:
    """1 to 2: what each rank has for itself was that of rank 0 alone, and is in a list of ranks."""
    own = dict(checkpoint["trainkit"])
    if "rng" in own:  # not so where there are weights only
        own["ranks"] = [{name: own.pop(name) for name in ("metrics", "group", "data", "rng")}]
    return {**checkpoint, "trainkit": own}


_STEPS: list[Callable[[Checkpoint], Checkpoint]] = [_per_rank]
"""The first leads from format 1 to 2, the second from 2 to 3, and so on. None is ever removed."""
