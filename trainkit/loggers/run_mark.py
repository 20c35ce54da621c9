"""The mark of a run: a random text in its folder and in its checkpoints, by which each knows the other.

A checkpoint says into which folder its run has logged. That is no more than a name, and whoever goes on there removes
rows. A file that is not of this run cannot have the mark in it, unless its author could look into the folder.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress

from trainkit.storage.remote import is_remote

NAME = ".trainkit-run-"
"""How the name of the mark begins: an empty folder, since making one is a single step that no kill can divide."""

_BYTES = 16
_MARK = re.compile(rf"{re.escape(NAME)}([0-9a-f]{{{2 * _BYTES}}})")


def is_marked(folder: str, mark: object) -> bool:
    """Whether ``mark`` is that of ``folder``."""
    name = f"{NAME}{mark}"
    return _MARK.fullmatch(name) is not None and os.path.isdir(os.path.join(folder, name))


def marks_in(folder: str | os.PathLike[str]) -> list[str]:
    """Return the marks that ``folder`` has: one, if runs have written there, and more where folders were merged."""
    try:
        return [match[1] for name in sorted(os.listdir(folder)) if (match := _MARK.fullmatch(name))]
    except OSError:
        return []


def make_mark(folder: str) -> str:
    """Return the mark of ``folder``, which is made if need be and gets one if it has none; empty if that fails."""
    # Where it cannot be made, a run whose checkpoints are elsewhere goes on in a new folder.
    with suppress(OSError):
        if is_remote(folder):
            return ""
        os.makedirs(folder, exist_ok=True)
        found = next(iter(marks_in(folder)), "")
        if not found:
            found = secrets.token_hex(_BYTES)
            os.mkdir(os.path.join(folder, f"{NAME}{found}"))
        return found
    return ""
