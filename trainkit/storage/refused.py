"""What to do where the file system refuses to write, by what it has answered."""

from __future__ import annotations

import errno

_FULL = "free some space, or "
_NOT_ALLOWED = "change the rights of that folder, or "
_NO_FOLDER = "a part of the path is a file and no folder: "
_FIRST = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.EROFS: _NOT_ALLOWED,
    errno.ENOTDIR: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
    errno.ENAMETOOLONG: "choose a shorter filename, or ",
}


def to_do(error: OSError, otherwise: str) -> str:
    """Return a sentence that says what to do.

    >>> to_do(OSError(errno.ENOSPC, "No space left on device"), "write elsewhere")
    'Free some space, or write elsewhere.'

    Args:
        error: What was answered.
        otherwise: What always helps.
    """
    sentence = f"{_FIRST.get(error.errno or 0, '')}{otherwise}."
    return sentence[0].upper() + sentence[1:]


def is_full(error: OSError) -> bool:
    """Return whether there is no room left."""
    return _FIRST.get(error.errno or 0) == _FULL
