"""Writing a file, or a folder of files, whole or not at all, so that it survives a full disk, a kill and a power cut.

``tests/resume/test_faults.py`` lets each write, flush, ``fsync``, rename and deletion fail, or be the last thing that
the process does.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from trainkit.errors import CheckpointWriteError
from trainkit.storage.put_in_place import delete, is_folder, put_in_place, refuse_foreign
from trainkit.storage.refused import is_full, to_do
from trainkit.storage.sharded.names import STATE, is_name_of_file
from trainkit.storage.temporary import folder_for, is_more_private, replacement
from trainkit.storage.temporary_names import temporary_for

TRIED_BYTES = 4096
"""How much is written to find out whether files can be: a block, which a full disk has not."""

COPIED_AT_ONCE = 2**20
"""How many bytes of a file are in memory at a time while it is copied."""

_ELSEWHERE = "write elsewhere (dirpath, default_root_dir)"


@contextmanager
def replacing(path: Path, like: Path | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file for writing, which replaces ``path`` at the end of the block.

    It is flushed to the disk before it gets the name, so that ``path`` is always either whole or as it was. Missing
    folders are made. If anything fails, the temporary file is deleted. The rights of ``path`` stay as they were.

    Args:
        path: The file.
        like: Whose rights it has if it is new; without it, the usual ones.

    Raises:
        CheckpointWriteError: If the file system refuses; it names ``path`` and says what to do.
    """
    with naming(path):
        if not path.name:  # such as "." and "/"
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacement(path, like) as file:
            yield file
            # Before the rename: some file systems would write the new name first, and after a power cut it would
            # lead to a file that is empty or cut off.
            _flush(file)
        # The rename is an entry in the folder, which has to reach the disk too before older files may be deleted.
        _sync_folder(path.parent)


@contextmanager
def replacing_folder(path: Path, like: Path | None = None) -> Iterator[tuple[Path, BinaryIO]]:
    """Make a temporary folder with an open file `STATE` in it, which replaces ``path`` at the end of the block.

    All that is written into it is to be flushed to the disk in the block. Otherwise as `replacing`.

    Args:
        path: What the folder becomes.
        like: Whose rights it has if it is new; without it, the usual ones.

    Raises:
        CheckpointWriteError: If the file system refuses; it names ``path`` and says what to do.
    """
    with naming(path):
        if not path.name:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_folder(path):
            refuse_foreign(path)
        with folder_for(path, like) as (folder, state):
            try:
                yield folder, state
                _flush(state)
                _sync_folder(folder)
                put_in_place(folder, path)
            except BaseException:
                delete(folder)
                raise
        _sync_folder(path.parent)


def replace_by_link(path: Path, target: Path) -> None:
    """Replace ``path`` by a symbolic link to ``target``, or by a copy of it where the file system has no links.

    It is a copy as well if ``path`` lets others do less than ``target``. Missing folders are made.

    Raises:
        CheckpointWriteError: If the file system refuses.
    """
    # Relative, so that the link still leads there when the folder is moved.
    _replace_by(lambda name: name.symlink_to(os.path.relpath(target, path.parent)), path, target)


def replace_by_hard_link(path: Path, target: Path) -> None:
    """Make ``path`` a second name of the file ``target``, or a copy of it where the file system has no such links.

    The file stays under this name when the other one is deleted or replaced. It is a copy as well if ``path`` lets
    others do less than ``target``. Missing folders are made.

    Raises:
        CheckpointWriteError: If the file system refuses.
    """
    if not target.is_dir():
        _replace_by(lambda name: os.link(target, name), path, target)
        return
    try:
        with replacing_folder(path) as (folder, _):
            for name in _files_of(target):
                os.link(target / name, folder / f"{name}~")
                os.replace(folder / f"{name}~", folder / name)
    except CheckpointWriteError as error:
        if error.errno in (errno.ENOSPC, errno.EISDIR):
            raise
        replace_by_copy(path, target)


def _replace_by(link: Callable[[Path], None], path: Path, target: Path) -> None:
    """Replace ``path`` by what ``link`` makes under a name that it is given, or by a copy of ``target``."""
    if is_more_private(path, than=target):
        replace_by_copy(path, target)
        return
    temporary = temporary_for(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        link(temporary)
    except OSError:
        replace_by_copy(path, target)
        return
    _rename(temporary, path)


def _rename(temporary: Path, path: Path) -> None:
    """Give a link its name. As with files it was made under another one: at no time is there no `path`."""
    try:
        with naming(path):
            put_in_place(temporary, path)
            _sync_folder(path.parent)
    finally:
        # Two names of one file are both left by a rename.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def replace_by_copy(path: Path, original: Path) -> None:
    """Replace ``path`` by a copy of ``original``, whole or not at all. A new file has the rights of ``original``.

    Raises:
        CheckpointWriteError: If the file system refuses.
    """
    if not original.is_dir():
        with replacing(path, like=original) as copy, open(original, "rb") as source:
            shutil.copyfileobj(source, copy, COPIED_AT_ONCE)
        return
    with replacing_folder(path, like=original) as (folder, state):
        for name in _files_of(original):
            with (
                open(original / name, "rb") as source,
                nullcontext(state) if name == STATE else open(folder / name, "xb") as copy,
            ):
                shutil.copyfileobj(source, copy, COPIED_AT_ONCE)
                _flush(copy)


def _files_of(folder: Path) -> list[str]:
    """Return the names of the files of a sharded checkpoint."""
    return [name for name in os.listdir(folder) if is_name_of_file(name)]


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def check_writable(folder: Path) -> None:
    """Raise an error early, and without leaving anything, if files cannot be written into ``folder``.

    Raises:
        CheckpointWriteError: If it, or the nearest folder above it that exists, is no folder, not writable, or full.
    """
    with naming(folder):
        # The folder itself may be made later, by the first file in it.
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not nearest.is_dir():
            raise OSError(errno.ENOTDIR, f"{nearest} is no folder")
        # Tried, since rights say little: not what a full disk, a quota or a file system that is no disk will do.
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(bytes(TRIED_BYTES))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise `CheckpointWriteError`, which names ``path``, for an OSError inside."""
    try:
        yield
    except OSError as error:
        raise _write_error(path, error) from error


def _write_error(path: Path, cause: OSError) -> CheckpointWriteError:
    reason = cause.strerror or str(cause)
    code = errno.errorcode.get(cause.errno or 0, type(cause).__name__)
    message = f"could not write {path}: {reason} ({code}). What was written before is untouched."
    fewer = "keep fewer checkpoints (save_top_k), or " if is_full(cause) else ""
    error = CheckpointWriteError(f"{message} {to_do(cause, fewer + _ELSEWHERE)}")
    error.errno = cause.errno
    return error


def _sync_folder(folder: Path) -> None:
    """Flush the entries of ``folder`` to the disk, and so a rename in it."""
    # Windows cannot open folders, and keeps the order by itself.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
