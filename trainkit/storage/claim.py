"""A claim on a folder: while one run writes into it, no other one does.

The operating system holds the claim, as a lock on a hidden file, and drops it with the process. So a run that was
killed leaves no claim behind. Where there are no such locks, as on Windows and on some network file systems, nothing is
claimed.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass

from trainkit.errors import FolderInUseError
from trainkit.output import warn
from trainkit.printable import printable
from trainkit.storage.remote import FilePath, is_remote

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".trainkit-lock"
"""The file that is locked. It is there while a run writes into its folder, and longer only after a kill."""

_SIGNED = re.compile(rb"process \d+ on [^\r\n]*")


class FolderClaim:
    """A claim of this process on ``folder``, which is made if it does not exist. Several parts of a run may share it.

    Args:
        folder: The folder. One behind a URL cannot be claimed, and is not.
        lock: The name of the file that is locked: another one claims a part of the folder.
        alone: Whether no other part of this process may have the claim either.

    Raises:
        FolderInUseError: If another process has claimed it, or with ``alone`` this one.
    """

    def __init__(self, folder: FilePath, lock: str = LOCK, *, alone: bool = False) -> None:
        self._path: str | None = None
        if fcntl is None or is_remote(folder):
            return
        folder = os.path.realpath(folder)
        path = os.path.join(folder, lock)
        held = _held.get(path)
        if held is not None and alone:
            raise FolderInUseError(folder, f"process {os.getpid()}, this one")
        if held is None:
            # What is wrong with the folder is told by those who write into it.
            with suppress(OSError):
                held = _Held(os.path.isdir(folder), _lock(path), 0)
        if held is not None:
            held.claims += 1
            _held[path] = held
            self._path = path

    def release(self) -> None:
        """Give the claim up; the last one of this process that does so ends it. A second call does nothing."""
        path, self._path = self._path, None
        held = _held.get(path or "")
        if path is None or held is None:  # in a forked child, the claim is that of its parent
            return
        held.claims -= 1
        if held.claims:
            return
        del _held[path]
        # While the lock is held: afterwards the file may be that of another run.
        with suppress(OSError):
            os.unlink(path)
        if not held.was_there:
            with suppress(OSError):  # there is something in it
                os.rmdir(os.path.dirname(path))
        os.close(held.file)


@dataclass(slots=True)
class _Held:
    """What this process has claimed.

    Attributes:
        was_there: Whether the folder existed before.
        file: The locked file, as a number.
        claims: How many parts of this process have claimed it.
    """

    was_there: bool
    file: int
    claims: int


_held: dict[str, _Held] = {}
"""By the path of the lock. A process meets its own lock as if it were that of another."""


def _lock(path: str) -> int:
    """Return the locked file at ``path``, whose folder is made."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    while True:
        file = _opened(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another run may have removed the file between the two lines above; then the lock is on no file.
            if os.path.samestat(os.fstat(file), os.lstat(path)):
                _sign(file, path)
                return file
        except BlockingIOError:
            owner = os.read(file, 1000).decode(errors="replace")
            os.close(file)
            # Whoever may write into the folder may have written it.
            raise FolderInUseError(os.path.dirname(path), printable(owner)) from None
        except FileNotFoundError:
            pass
        except OSError:  # a file system without locks, or a file of somebody else
            is_new = _is_ours(file) and not os.fstat(file).st_size
            os.close(file)
            if is_new:
                os.unlink(path)
            raise
        os.close(file)


def _opened(path: str) -> int:
    # No link is followed: what is written into the file would be written into what it leads to. No pipe is waited for.
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        with suppress(PermissionError):
            return os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o666)
        # That of another user can be locked all the same.
        return os.open(path, flags | os.O_RDONLY)
    except OSError:
        if os.path.lexists(path):
            _warn_of_no_claim(path)
        raise


def _sign(file: int, path: str) -> None:
    """Write into the locked file whose it is; raise FileExistsError if it is none of ours."""
    if not _is_ours(file):
        _warn_of_no_claim(path)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    with suppress(OSError):  # the disk is full, or the file is that of another user
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)


def _is_ours(file: int) -> bool:
    """Return whether a file is empty or was signed by a run, and has no other name by which it is somebody's."""
    found = os.fstat(file)
    is_alone = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    return is_alone and (not found.st_size or _SIGNED.fullmatch(os.pread(file, 1000, 0)) is not None)


def _warn_of_no_claim(path: str) -> None:
    folder = os.path.dirname(path)
    warn(
        f"{path} is not a lock of a run, or cannot be opened, and so {folder} is not claimed: if a second run writes "
        "into it, neither notices. To claim it, remove that file."
    )


def _let_go() -> None:
    """In a forked child: the claims are those of its parent, and must not live on in workers that outlive it."""
    for held in _held.values():
        os.close(held.file)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
