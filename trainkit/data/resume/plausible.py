"""Whether a place in the data can be one: to find it again, a run may have to repeat all that came before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainkit.data.resume.index_stream import KEPT_CHECKSUMS
from trainkit.errors import CheckpointError
from trainkit.progress import Progress

MOST_BATCHES = 10**9
"""How many batches an epoch can have had: at a millisecond for each, it takes eleven days."""

_AHEAD = 2
"""The batch that is under way, and one that is fetched ahead."""


def check_counters(progress: Progress, path: str) -> None:
    """Refuse counters up to which nobody has counted: an endless loader would be replayed without an end.

    Raises:
        CheckpointError: If there are such.
    """
    for name in ("batch", "validation_batch"):
        if getattr(progress, name) > MOST_BATCHES:
            raise CheckpointError(f"{path} says {name}={getattr(progress, name)}, which no run has come to.")


def check_place(progress: Progress, data: Mapping[str, Any], path: str, *, in_training: bool) -> None:
    """Refuse the place of a loader that is behind what ``progress`` counts, and so would be looked for without an end.

    Args:
        progress: How far the run was.
        data: The place of a rank in its data, as a checkpoint has it.
        path: The file, for the error.
        in_training: Whether training batches of the epoch are to come, so that their loaders find their places.

    Raises:
        CheckpointError: If there is such a loader.
    """
    train, val, loader = data["train"], data["val"], progress.validation_loader
    cursors = [(each, progress.batch) for each in train["cursors"]] if train and in_training else []
    if progress.has_validated and loader < len(val):
        cursors += [(each, progress.validation_batch) for each in val[loader]["cursors"]]
    for cursor, batches in cursors:
        given, drawn, again = cursor["given"], cursor.get("drawn", cursor["given"]), cursor.get("again", 0)
        if given > batches + _AHEAD or again > given or not given <= drawn <= given + KEPT_CHECKSUMS:
            raise CheckpointError(
                f"{path} contradicts itself: {batches} batches are done, and a loader has given {given}, with {drawn} "
                f"drawn and {again} to be given again. Use another checkpoint."
            )
