"""The mark of a run: a random text in its folder and in its checkpoints, by which each knows the other.

A checkpoint says into which folder its run has logged. That is no more than a name, and whoever goes on there removes
rows. A file that is not of this run cannot have the mark in it, unless its author could read the folder.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from trainkit.errors import CheckpointWriteError
from trainkit.storage.atomic_write import replacing
from trainkit.storage.remote import is_remote

NAME = ".trainkit-run"
"""The file in the folder of a run that holds its mark."""

_BYTES = 16
_MARK = re.compile(rf"[0-9a-f]{{{2 * _BYTES}}}")


def mark_of(folder: str) -> str:
    """Return the mark in ``folder``; empty if there is none."""
    try:
        with open(os.path.join(folder, NAME), encoding="ascii") as file:
            found = file.read(2 * _BYTES + 1)
    except (OSError, ValueError):
        return ""
    return found if _MARK.fullmatch(found) else ""


def make_mark(folder: str) -> str:
    """Return the mark in ``folder``, which is made if need be and gets one if it has none; empty if that fails."""
    mark = mark_of(folder)
    if not mark and not is_remote(folder):
        # Where it cannot be written, a run whose checkpoints are elsewhere goes on in a new folder.
        with suppress(OSError, CheckpointWriteError), replacing(Path(folder, NAME)) as file:
            file.write(secrets.token_hex(_BYTES).encode())
        mark = mark_of(folder)
    return mark
