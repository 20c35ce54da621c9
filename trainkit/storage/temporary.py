"""Temporary files: a file is built up in one, and a rename gives it its name. Killed processes leave some behind.

A leftover is deleted only if it is certainly ours and nobody's any more. Ours, because its name is of a pattern that no
one else uses. Nobody's, because whoever writes one holds a lock on it, which the operating system drops with the
process, in other containers too. A number of a process would prove nothing: each container has a process 1.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CAN_LOCK = fcntl is not None

PATTERN = re.compile(r"\.trainkit-([0-9a-f]{8})-[0-9a-f]{16}\.tmp")
"""The names of temporary files: the kernel under which one was made, and a random number."""

ABANDONED_AFTER_S = 24 * 3600.0
"""The age, in seconds since the last write, from which on the lock on a file of another kernel is believed."""


@contextmanager
def replacement(path: Path, like: Path | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` for writing, which takes the place of ``path`` at the end of the block.

    It has the rights of the file that it replaces. If anything fails, it is deleted, and ``path`` stays as it was.

    Args:
        path: The file to replace or to make. A link is replaced, and what it leads to is left alone.
        like: Whose rights it has if there is no ``path``; without it, the usual ones.

    Raises:
        OSError: If the file system refuses, or ``path`` is a device or a pipe, which is not to be replaced.
    """
    remove_abandoned(path.parent)
    temporary, file = _created(path, _replaced(path) or (None if like is None else _replaced(like)))
    owner = os.dup(file.fileno())
    try:
        with file:
            yield file
        os.replace(temporary, path)
    # Not Exception: Ctrl-C while a large file is written must not leave it either.
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    finally:
        # After the rename, as the lock is given up with the last descriptor.
        os.close(owner)


def temporary_for(path: Path) -> Path:
    """Return a name for what is to become ``path``: in the same folder, as a rename cannot leave a file system."""
    # Random: two that write one path, in whatever containers or machines, must not write into one file. Not by the
    # module of that name, which draws the same in forked processes, and whose state belongs to the run.
    return path.with_name(f".trainkit-{_kernel()}-{secrets.token_hex(8)}.tmp")


def remove_abandoned(folder: Path) -> None:
    """Delete the temporary files of killed processes: a run that is often killed while it saves would fill the disk.

    Where files cannot be locked, nothing proves that their owner is dead, and none is deleted.
    """
    if not CAN_LOCK:
        return
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if match := PATTERN.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_if_abandoned(entry.path, match[1])


def is_more_private(path: Path, than: Path) -> bool:
    """Return whether ``path`` is a file that lets others do less than the file ``than`` does."""
    try:
        own, other = path.lstat().st_mode, than.stat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(own) and bool(other & ~own & 0o777)


def _replaced(path: Path) -> os.stat_result | None:
    """Return the state of the file at ``path``, None if there is none; raise OSError unless it may be replaced."""
    try:
        found = path.stat()
    except OSError:  # none, or a link that leads nowhere
        return None
    # A superuser could replace /dev/null. To rename over a folder is refused by the system.
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise OSError(errno.EINVAL, f"{path} is a device or a pipe, and no file")
    return found if stat.S_ISREG(found.st_mode) else None


def _created(path: Path, old: os.stat_result | None) -> tuple[Path, BinaryIO]:
    """Make a temporary file for ``path``, with the rights of ``old``, and lock it."""

    def opened(name: str, flags: int) -> int:
        # With O_EXCL, of mode "x", no link is followed either; to say so twice costs nothing.
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666 if old is None else 0o600)

    while True:
        temporary = temporary_for(path)
        file = open(temporary, "x+b", opener=opened)  # noqa: SIM115  # closed by who asked for it
        if _lock(file.fileno(), temporary):
            if old is not None:
                _take_rights(file.fileno(), old)
            return temporary, file
        file.close()


def _lock(descriptor: int, temporary: Path) -> bool:
    """Lock a new file; return False if another process came first, and has deleted it as a leftover or is about to."""
    if not CAN_LOCK:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, on which no other process gets one either
        return True
    return os.path.lexists(temporary)


def _take_rights(descriptor: int, old: os.stat_result) -> None:
    """Give a new file, which is its owner's alone, the group and the mode of ``old``, as far as that is possible."""
    if os.name == "nt":
        return
    mode = stat.S_IMODE(old.st_mode) & 0o777
    with suppress(OSError):  # not every file system has rights
        if os.fstat(descriptor).st_gid != old.st_gid:
            with suppress(OSError):
                os.fchown(descriptor, -1, old.st_gid)
            # What the old group might do is not for another one.
            if os.fstat(descriptor).st_gid != old.st_gid:
                mode &= 0o707
        os.fchmod(descriptor, mode)


def _remove_if_abandoned(path: str, kernel: str) -> None:
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        # A link has no lock. It is renamed at once, or never.
        if time.time() - found.st_mtime > ABANDONED_AFTER_S:
            os.unlink(path)
        return
    # For writing, without which some network file systems give no lock; and not to wait for a pipe of that name.
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_left(os.fstat(descriptor), kernel):
            os.unlink(path)
    finally:
        os.close(descriptor)


def _is_left(file: os.stat_result, kernel: str) -> bool:
    """Return whether a temporary file, whose lock was free, was left by a process that is dead."""
    # A second name of a file costs nothing, has no lock, and may be about to be renamed.
    if not stat.S_ISREG(file.st_mode) or file.st_nlink > 1:
        return False
    # Some network file systems lock for one machine alone; there another one may be writing it.
    return kernel == _kernel() or time.time() - file.st_mtime > ABANDONED_AFTER_S


@functools.cache
def _kernel() -> str:
    """Return what tells the running kernel from all others: containers share it, and a reboot changes it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:  # not Linux: as if each process were a machine of its own
        return secrets.token_hex(4)
