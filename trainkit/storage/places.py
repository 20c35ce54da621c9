"""Whether a path that was read from a file leads to where the user has said that files are."""

from __future__ import annotations

import os

from trainkit.storage.remote import is_remote


def lies_in(path: object, folder: str | os.PathLike[str] | None) -> bool:
    """Whether ``path``, which may be anything, is a place below ``folder``. No server is asked.

    Args:
        path: What was read from a file.
        folder: A path or a URL that the user gave, or None. A URL is compared as text.
    """
    if not isinstance(path, str) or not folder or is_remote(path) != is_remote(folder):
        return False
    if is_remote(folder):
        base = os.path.join(folder, "")
        rest = path.removeprefix(base)
        # fsspec reads "a::b" as a way through several file systems.
        return path.startswith(base) and not ("::" in rest or "://" in rest or ".." in rest.split("/"))
    above = real(os.path.dirname(path))
    return above != "" and os.path.join(above, "").startswith(os.path.join(real(os.fspath(folder)), ""))


def is_below(path: str, folder: str) -> bool:
    """As `lies_in`, by the texts alone: nothing on a disk is looked at, and no link followed."""
    if is_remote(folder):
        return lies_in(path, folder)
    return not is_remote(path) and os.path.abspath(path).startswith(os.path.join(os.path.abspath(folder), ""))


def real(folder: str) -> str:
    """Return a folder without links, a URL as it is; empty for what can be no folder, as it has a zero byte, say."""
    if is_remote(folder):
        return folder
    try:
        return os.path.realpath(folder)
    except (OSError, ValueError):
        return ""
