"""Giving what was built under a temporary name its own, whatever has that: a file, a link, or a sharded checkpoint.

One rename replaces a file by a file. Where a folder comes or goes, Linux exchanges the two names in one step. Where it
cannot, what is new gets a name beside the old one first, under which a search for checkpoints finds it: so a whole one
is there at each moment.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trainkit.storage.sharded.names import STATE, is_name_of_file
from trainkit.storage.temporary_names import temporary_for

_CURRENT_FOLDER = -100
_EXCHANGE = 2
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
_SPARE = r"~[0-9a-f]{8}"


def put_in_place(temporary: Path, path: Path) -> None:
    """Give ``temporary`` the name ``path``. What has had that is deleted afterwards.

    Raises:
        OSError: If the file system refuses, or ``path`` is a folder and no sharded checkpoint. It is as it was then.
    """
    if is_folder(path):
        refuse_foreign(path)
    elif not (is_folder(temporary) and os.path.lexists(path)):
        os.replace(temporary, path)
        return
    left = temporary
    if not exchange(temporary, path):
        left = _rename_in_turns(temporary, path)
    delete(left)


def remove_folder(path: Path) -> None:
    """Delete a sharded checkpoint. It is gone as a whole, at once.

    Raises:
        OSError: If the file system refuses, or there are other files in it.
    """
    refuse_foreign(path)
    hidden = temporary_for(path)
    os.rename(path, hidden)
    delete(hidden)


def delete(path: Path) -> None:
    """Delete a file, or a folder of files, that has a temporary name. What is left is deleted as leftovers are."""
    with suppress(OSError):
        if not is_folder(path):
            path.unlink()
            return
        # The file by whose lock others know that it is in use goes last.
        for entry in sorted(path.iterdir(), key=lambda entry: entry.name == STATE):
            entry.unlink(missing_ok=True)
        path.rmdir()


def is_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder, and no link to one."""
    with suppress(OSError):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False


def refuse_foreign(path: Path) -> None:
    """Raise OSError if a folder has files in it that no sharded checkpoint has, which would be lost with it."""
    names = [entry.name for entry in os.scandir(path) if not is_name_of_file(entry.name) or entry.is_dir()]
    if names or STATE not in os.listdir(path):
        what = f"{names[0]} is in it" if names else f"{STATE} is not in it"
        raise OSError(errno.EISDIR, f"{path.name} is a folder, and no checkpoint: {what}")


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names, in one step; return whether the system can do that.

    Raises:
        OSError: If it can, and refuses.
    """
    rename = _renameat2()
    if rename is None:
        return False
    if not rename(_CURRENT_FOLDER, os.fsencode(one), _CURRENT_FOLDER, os.fsencode(other), _EXCHANGE):
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(other))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """Return the function of the C library, if there is one."""
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux, or an old one
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return function


def _rename_in_turns(temporary: Path, path: Path) -> Path:
    """Rename ``temporary`` to ``path`` where the two cannot be exchanged; return the name that the old one has then."""
    # Each with the suffix of a checkpoint, and of no other name than these.
    spare = path.with_name(f"{path.stem}~{secrets.token_hex(4)}{path.suffix}")
    hidden = temporary_for(path)
    os.rename(temporary, spare)
    try:
        os.rename(path, hidden)
        os.rename(spare, path)
    except OSError:
        with suppress(OSError):
            if not os.path.lexists(path):
                os.rename(hidden, path)
            os.rename(spare, temporary)
        raise
    pattern = re.compile(re.escape(path.stem) + _SPARE + re.escape(path.suffix))
    # What a process that was killed in the middle of these has left is older than what has just got its name.
    for other in path.parent.iterdir():
        if pattern.fullmatch(other.name) and is_folder(other):
            with suppress(OSError):
                remove_folder(other)
    return hidden
