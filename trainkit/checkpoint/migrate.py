"""Converting checkpoints of older formats, and of Lightning, to the present format when they are read.

When a key changes its meaning, raise `FORMAT`, add a step here, and put a file of the old format into
``tests/checkpoint/data``. A key that is merely added needs none of this: what reads it uses ``get``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainkit.checkpoint.lightning import from_lightning, is_from_lightning
from trainkit.errors import CheckpointError, StateError
from trainkit.storage.layout import FORMAT, misfit
from trainkit.storage.owners import restoring

Checkpoint = dict[str, Any]


def migrate(checkpoint: Checkpoint, path: object) -> Checkpoint:
    """Return ``checkpoint`` in the present format. The file stays as it is.

    Args:
        checkpoint: What was read.
        path: The file, for the error.

    Raises:
        CheckpointError: If the format is newer than this version knows.
    """
    if is_from_lightning(checkpoint):
        with restoring("what Lightning keeps", str(path)):
            return _checked(from_lightning(checkpoint))
    own = checkpoint.get("trainkit")
    # Of another program: its weights can still be used, and a fit that is to continue from it is refused elsewhere.
    if not isinstance(own, dict) or "format" not in own:
        return checkpoint
    found = own["format"]
    if found > FORMAT:
        raise CheckpointError(
            f"{path} has format {found}, written by trainkit {own.get('version')}, and this version reads "
            f"formats up to {FORMAT}. Update trainkit."
        )
    if found == FORMAT:
        return checkpoint
    with restoring(f"what format {found} has", str(path)):
        for step in _STEPS[max(found, 1) - 1 :]:
            checkpoint = step(checkpoint)
            checkpoint["trainkit"]["format"] += 1
        return _checked(checkpoint)


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    # Only now: of other formats no layout is known when they are read.
    if wrong := misfit(checkpoint):
        raise StateError(wrong)
    return checkpoint


def _per_rank(checkpoint: Checkpoint) -> Checkpoint:
    """From 1 to 2: what each rank keeps for itself is in the list ``ranks``; before, only rank 0 had it."""
    # A copy, as the caller's dictionary is not changed.
    own = dict(checkpoint["trainkit"])
    if "rng" in own:  # not so where there are weights only
        own["ranks"] = [{name: own.pop(name) for name in ("metrics", "group", "data", "rng")}]
    return {**checkpoint, "trainkit": own}


_STEPS: list[Callable[[Checkpoint], Checkpoint]] = [_per_rank]
"""The first step leads from format 1 to 2, the second from 2 to 3, and so on. No step is ever removed."""
