"""Opening files: regular ones alone, since a pipe may never answer, and a device may never end."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO, Literal


def open_regular(path: str | os.PathLike[str], *, or_pipe: bool = False) -> BinaryIO:
    """Open a file, or what a link leads to, for reading.

    Args:
        path: The file.
        or_pipe: Whether it may be a pipe too. One into which nobody writes is empty.

    Raises:
        OSError: If it cannot be opened, or is no regular file, or if no file can have such a name.
    """
    try:
        file = open(path, "rb", opener=_at_once)  # noqa: SIM115  # closed by who asked for it
    except ValueError as error:
        raise OSError(errno.EINVAL, "no file can have such a name") from error
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISREG(mode):
        return file
    if or_pipe and stat.S_ISFIFO(mode):
        os.set_blocking(file.fileno(), True)
        return file
    file.close()
    raise OSError(errno.EINVAL, "it is a device, a pipe or a socket, and no file")


def open_own(path: str | os.PathLike[str], mode: Literal["rb", "r+b", "ab"] = "rb") -> BinaryIO:
    """Open a regular file that is there, and that is reached by this name alone: to write to another is to write twice.

    Raises:
        OSError: If it cannot be opened, or is a link or has a second name (a hard link), or is no regular file.
    """
    file = open(path, mode, opener=_not_through_links)  # noqa: SIM115  # closed by who asked for it
    state = os.fstat(file.fileno())
    if stat.S_ISREG(state.st_mode) and state.st_nlink == 1:
        return file
    file.close()
    raise OSError("it is no regular file, or has a second name elsewhere (a hard link)")


def _not_through_links(name: str, flags: int) -> int:
    # Without O_CREAT, which mode "a" has: what is not there is made by who knows that it is to be new.
    return _at_once(name, flags & ~os.O_CREAT | getattr(os, "O_NOFOLLOW", 0))


def _at_once(name: str, flags: int) -> int:
    # To open a pipe would wait for who writes into it, and to open a terminal could make it that of this process.
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
