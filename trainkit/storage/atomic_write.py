"""Writing a file whole or not at all, so that it survives a full disk, a kill and a power cut."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from trainkit.errors import CheckpointWriteError

ABANDONED_AFTER_S = 3600.0
"""A temporary file that nobody has written to for so long belongs to a process that was killed."""

COPIED_AT_ONCE = 2**20
"""How many bytes of a file are in memory while it is copied."""

_FULL = "Free some space, keep fewer checkpoints (save_top_k), or write elsewhere (dirpath, default_root_dir)."
_NOT_ALLOWED = "Change the rights of that folder, or write elsewhere (dirpath, default_root_dir)."
_NO_FOLDER = "A part of the path is a file and no folder: write elsewhere (dirpath, default_root_dir)."
_ADVICE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.EROFS: _NOT_ALLOWED,
    errno.ENOTDIR: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
    errno.ENAMETOOLONG: "Choose a shorter filename.",
}


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write into that takes the place of ``path`` once it is whole and on the disk.

    Folders on the way are made. If anything fails, ``path`` is what it was, and nothing else is left.

    Raises:
        CheckpointWriteError: If the file system refuses; it names ``path`` and says what to do.
    """
    temporary = _temporary(path)
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)


def replace_by_link(path: Path, target: Path) -> None:
    """Let ``path`` lead to ``target``, in place of what it was; a copy where the file system has no links.

    Raises:
        CheckpointWriteError: If the file system refuses.
    """
    temporary = _temporary(path)
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(target, path.parent))
    except OSError:
        replace_by_copy(path, target)
        return
    with _naming(path):
        os.replace(temporary, path)
        _sync_folder(path.parent)


def replace_by_copy(path: Path, original: Path) -> None:
    """Make ``path`` a copy of ``original``.

    Raises:
        CheckpointWriteError: If the file system refuses.
    """
    with replacing(path) as copy, open(original, "rb") as source:
        shutil.copyfileobj(source, copy, COPIED_AT_ONCE)


def check_writable(folder: Path) -> None:
    """Find out early, and without making anything, whether files can be written into ``folder``.

    Raises:
        CheckpointWriteError: If it, or the nearest folder above it that exists, is no folder or not writable.
    """
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    code = errno.ENOTDIR if not nearest.is_dir() else 0 if os.access(nearest, os.W_OK | os.X_OK) else errno.EACCES
    if code:
        raise _write_error(folder, OSError(code, os.strerror(code)))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _write_error(path, error) from error


def _write_error(path: Path, cause: OSError) -> CheckpointWriteError:
    reason = cause.strerror or str(cause)
    code = errno.errorcode.get(cause.errno or 0, type(cause).__name__)
    message = f"could not write {path}: {reason} ({code}). What was written before is untouched."
    error = CheckpointWriteError(f"{message} {_ADVICE.get(cause.errno or 0, '')}".rstrip())
    error.errno = cause.errno
    return error


def _temporary(path: Path) -> Path:
    """Where ``path`` is built up: hidden, and in the same folder because a rename cannot leave the file system."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp")


def _remove_abandoned(folder: Path) -> None:
    """Delete what killed processes have left: a run that is often restarted while it saves would fill the disk."""
    for leftover in folder.glob(".*.tmp"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > ABANDONED_AFTER_S:
                leftover.unlink()


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk. Windows cannot open folders, and keeps the order by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
