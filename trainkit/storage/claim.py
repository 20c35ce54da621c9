"""A claim on a folder: while one run writes into it, no other one does.

The operating system holds the claim, as a lock on a hidden file, and drops it with the process. So a run that was
killed leaves no claim behind. Where there are no such locks, as on Windows and on some network file systems, nothing is
claimed.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass

from trainkit.errors import FolderInUseError
from trainkit.storage.remote import FilePath, is_remote

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".trainkit-lock"
"""The file that is locked. It is there while a run writes into its folder, and longer only after a kill."""


class FolderClaim:
    """A claim of this process on ``folder``, which is made if it does not exist. Several parts of a run may share it.

    Args:
        folder: The folder. One behind a URL cannot be claimed, and is not.

    Raises:
        FolderInUseError: If another process has claimed it.
    """

    def __init__(self, folder: FilePath) -> None:
        self._folder: str | None = None
        if fcntl is None or is_remote(folder):
            return
        folder = os.path.realpath(folder)
        held = _held.get(folder)
        if held is None:
            # What is wrong with the folder is told by those who write into it.
            with suppress(OSError):
                held = _Held(os.path.isdir(folder), _lock(folder), 0)
        if held is not None:
            held.claims += 1
            _held[folder] = held
            self._folder = folder

    def release(self) -> None:
        """Give the claim up; the last one of this process that does so ends it. A second call does nothing."""
        folder, self._folder = self._folder, None
        held = _held.get(folder or "")
        if folder is None or held is None:  # in a forked child, the claim is that of its parent
            return
        held.claims -= 1
        if held.claims:
            return
        del _held[folder]
        # While the lock is held: afterwards the file may be that of another run.
        with suppress(OSError):
            os.unlink(os.path.join(folder, LOCK))
        if not held.was_there:
            with suppress(OSError):  # there is something in it
                os.rmdir(folder)
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
"""By folder. A process meets its own lock as if it were that of another."""


def _lock(folder: str) -> int:
    """Return the locked file of ``folder``."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, LOCK)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another run may have removed the file between the two lines above; then the lock is on no file.
            if os.path.samestat(os.fstat(file), os.stat(path)):
                os.ftruncate(file, 0)
                os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return file
        except BlockingIOError:
            owner = os.read(file, 1000).decode(errors="replace")
            os.close(file)
            raise FolderInUseError(folder, owner) from None
        except FileNotFoundError:
            pass
        except OSError:  # a file system without locks
            os.close(file)
            os.unlink(path)
            raise
        os.close(file)


def _let_go() -> None:
    """In a forked child: the claims are those of its parent, and must not live on in workers that outlive it."""
    for held in _held.values():
        os.close(held.file)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
