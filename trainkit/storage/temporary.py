"""Temporary files: a file is built up in one, and a rename gives it its name. Killed processes leave some behind.

A leftover is deleted only if it is certainly ours and nobody's any more. Ours, because its name is of a pattern that no
one else uses. Nobody's, because whoever writes one holds a lock on it, which the operating system drops with the
process, in other containers too. A number of a process would prove nothing: each container has a process 1.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from trainkit.storage.put_in_place import delete, put_in_place
from trainkit.storage.sharded.names import STATE
from trainkit.storage.temporary_names import PATTERN, kernel, temporary_for

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CAN_LOCK = fcntl is not None

ABANDONED_AFTER_S = 24 * 3600.0
"""The age, in seconds since the last write, from which on the lock on a file of another kernel is believed."""


@contextmanager
def folder_for(path: Path, like: Path | None = None) -> Iterator[tuple[Path, BinaryIO]]:
    """Make a temporary folder beside ``path``, with the file `STATE` in it, open for writing and locked.

    At the end of the block it is left to whoever asked for it, by its name or deleted: only the lock is given up.

    Args:
        path: What the folder is to become. It has the rights of that, as far as a folder can.
        like: Whose rights it has if there is no ``path``.

    Raises:
        OSError: If the file system refuses, or ``path`` is a device or a pipe, which is not to be replaced.
    """
    remove_abandoned(path.parent)
    old = _rights(path) or (None if like is None else _rights(like))
    while True:
        folder = temporary_for(path)
        folder.mkdir(0o777 if old is None else 0o700)
        try:
            state = open(folder / STATE, "x+b")  # noqa: SIM115  # closed below
        except FileNotFoundError:
            continue  # taken for a leftover
        if _lock(state.fileno(), folder / STATE):
            break
        state.close()
    with state:
        if old is not None:
            with _opened_folder(folder) as descriptor:
                _take_rights(descriptor, old)
        yield folder, state


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
        put_in_place(temporary, path)
    # Not Exception: Ctrl-C while a large file is written must not leave it either.
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    finally:
        # After the rename, as the lock is given up with the last descriptor.
        os.close(owner)


def remove_abandoned(folder: Path) -> None:
    """Delete what killed processes have left: a run that is often killed while it saves would fill the disk.

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
    """Return whether ``path``, a file or folder and no link, lets others do less than ``than`` does."""
    try:
        own, other = path.lstat().st_mode, than.stat().st_mode
    except OSError:
        return False
    # Whether a folder may be looked into says nothing about a file.
    compared = 0o777 if stat.S_ISDIR(own) == stat.S_ISDIR(other) else 0o666
    return (stat.S_ISREG(own) or stat.S_ISDIR(own)) and bool(other & ~own & compared)


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


def _rights(path: Path) -> os.stat_result | None:
    """Return the state of the file or folder at ``path``, as `_replaced` does."""
    found = _replaced(path)
    if found is None and path.is_dir():
        found = path.stat()
    return found


@contextmanager
def _opened_folder(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


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
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        mode |= (mode & 0o444) >> 2  # who may read a folder may look into it
    with suppress(OSError):  # not every file system has rights
        if os.fstat(descriptor).st_gid != old.st_gid:
            with suppress(OSError):
                os.fchown(descriptor, -1, old.st_gid)
            # What the old group might do is not for another one.
            if os.fstat(descriptor).st_gid != old.st_gid:
                mode &= 0o707
        os.fchmod(descriptor, mode)


def _remove_if_abandoned(path: str, made_under: str) -> None:
    found = os.lstat(path)
    if stat.S_ISDIR(found.st_mode):
        _remove_folder_if_abandoned(path, made_under)
        return
    if stat.S_ISLNK(found.st_mode):
        # A link has no lock. It is renamed at once, or never.
        if time.time() - found.st_mtime > ABANDONED_AFTER_S:
            os.unlink(path)
        return
    # For writing, without which some network file systems give no lock; and not to wait for a pipe of that name.
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_left(os.fstat(descriptor), made_under):
            os.unlink(path)
    finally:
        os.close(descriptor)


def _remove_folder_if_abandoned(path: str, made_under: str) -> None:
    """Do the same with a folder: who builds it, or reads or deletes it, is known by the lock on one file in it."""
    try:
        descriptor = os.open(os.path.join(path, STATE), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        os.rmdir(path)  # who has just made it makes another one
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_left(os.fstat(descriptor), made_under):
            delete(Path(path))
    finally:
        os.close(descriptor)


def _is_left(file: os.stat_result, made_under: str) -> bool:
    """Return whether a temporary file, whose lock was free, was left by a process that is dead."""
    # A second name of a file costs nothing, has no lock, and may be about to be renamed.
    if not stat.S_ISREG(file.st_mode) or file.st_nlink > 1:
        return False
    # Some network file systems lock for one machine alone; there another one may be writing it.
    return made_under == kernel() or time.time() - file.st_mtime > ABANDONED_AFTER_S
