"""Checkpoint files: written whole or not at all, checked before they are trusted, never able to run code."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from trainkit.errors import CheckpointError, CheckpointNotFoundError, CheckpointWriteError, nearest_name
from trainkit.storage import remote
from trainkit.storage.archive import Archive, ArchiveError, seal
from trainkit.storage.atomic_write import (
    COPIED_AT_ONCE,
    check_writable,
    replace_by_copy,
    replace_by_hard_link,
    replace_by_link,
    replacing,
)
from trainkit.storage.layout import misfit
from trainkit.storage.loading import foreign_names, load
from trainkit.storage.plain import NotPlainError
from trainkit.storage.put_in_place import is_folder, remove_folder
from trainkit.storage.regular import open_regular
from trainkit.storage.remote import FilePath, is_remote
from trainkit.storage.saving import save
from trainkit.storage.sharded.names import MANIFEST, STATE
from trainkit.storage.sharded.reader import ShardedFiles
from trainkit.storage.sharded.writer import ShardedWrite
from trainkit.storage.storable import check_storable
from trainkit.storage.unpickler import ForeignCodeError

Content = dict[str, Any] | ShardedWrite
"""A checkpoint that is to be written: as it is, or what all ranks have written of it."""


def write_checkpoint(checkpoint: Content, path: FilePath) -> None:
    """Write ``checkpoint`` to ``path``, which holds all of it afterwards, or what it held before if anything fails.

    That includes a power cut. Missing folders are made.

    Args:
        checkpoint: Tensors and plain containers; or what all ranks have written for ``path``, which gets its name.
        path: A path, or a URL that fsspec knows.

    Raises:
        CheckpointError: If something in it could not be read back without running code.
        CheckpointWriteError: If the file system refuses. Nothing is left behind then.
    """
    if isinstance(checkpoint, ShardedWrite):
        checkpoint.publish()
        return
    # torch.save would write anything that can be pickled, and the run would end up with files that nobody can load.
    check_storable(checkpoint)
    with _replacing(path) as file:
        save(checkpoint, file)
        seal(file)


def read_checkpoint(path: FilePath, map_location: Any = None, *, whole: bool = True) -> dict[str, Any]:
    """Verify a checkpoint, as `verify` does, and return it; nothing in it is run or imported.

    Args:
        path: A path, or a URL that fsspec knows.
        map_location: Where its tensors go, as in ``torch.load``; None is the CPU.
        whole: Whether to read the tensors of a sharded one, as a whole. Otherwise a `SavedTensor` stands for each, and
            of the files with their parts the size alone is looked at.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CheckpointError: If it is damaged, is no checkpoint, or would have to run code.
    """
    files = _sharded(path)
    if files is None:
        with _archive(path) as archive:
            return _checked(archive, path, map_location)
    if not whole:
        files.check_sizes()
    with _state_of(files) as archive:
        checkpoint = _checked(archive, path, map_location, files=files)
    return files.with_whole(checkpoint, map_location) if whole else checkpoint


def read_form(path: FilePath) -> dict[str, Any]:
    """Return a checkpoint without the values of its tensors, which are not read: zeros are in their place.

    All else is as `read_checkpoint` gives it, in a fraction of the time; damage is found in what is read alone. A
    remote file is fetched as a whole. A `SavedTensor` stands for each sharded tensor.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CheckpointError: As in `read_checkpoint`.
    """
    files = _sharded(path)
    with _archive(path) if files is None else _state_of(files, checks=False) as archive:
        return _checked(archive, path, with_values=False, files=files)


def _checked(
    archive: Archive,
    path: FilePath,
    map_location: Any = None,
    *,
    with_values: bool = True,
    files: ShardedFiles | None = None,
) -> dict[str, Any]:
    """Return the checkpoint in ``archive``, which is that of ``path``, within the limits and as the layout has it."""
    try:
        checkpoint = load(archive, map_location, with_values=with_values)
        if files is not None:
            checkpoint = files.with_place_holders(checkpoint)
    except (ArchiveError, OSError):
        raise
    except ForeignCodeError as error:
        raise CheckpointError(_refusal(archive, path)) from error
    except NotPlainError as error:
        raise CheckpointError(f"{path} is refused: {error}.") from error
    # What matches its checksums may still be made up, and fail in any way.
    except Exception as error:
        raise CheckpointError(f"{path} cannot be loaded: {error}") from error
    if with_values:
        archive.check_rest()
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path} is not a checkpoint: it holds a {type(checkpoint).__name__} instead of a dict.")
    if wrong := misfit(checkpoint):
        raise CheckpointError(
            f"{path} is whole, and yet no checkpoint that trainkit has written: {wrong}. Use another one."
        )
    return checkpoint


def verify(path: FilePath) -> None:
    """Compare every part of a checkpoint with its checksum; load nothing.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CheckpointError: If a part is damaged or missing, or if it is no checkpoint.
    """
    files = _sharded(path)
    if files is not None:
        files.verify()
    with _archive(path) if files is None else _state_of(files, checks=False) as archive:
        archive.check_rest()


def link_checkpoint(target: FilePath, link: FilePath) -> None:
    """Replace ``link`` by a link to the checkpoint ``target``, or by a copy of it where there are no links.

    Raises:
        CheckpointWriteError: If the file system refuses.
    """
    if is_remote(link):
        copy_checkpoint(target, link)
    else:
        replace_by_link(Path(link), Path(target))


def share_checkpoint(source: FilePath, path: FilePath) -> None:
    """Give a checkpoint a second name, under which it stays when the first one is deleted or replaced.

    It is not written a second time where the file system can do that; otherwise it is copied.

    Raises:
        CheckpointWriteError: If the file system refuses.
    """
    if is_remote(source) or is_remote(path):
        copy_checkpoint(source, path)
    else:
        replace_by_hard_link(Path(path), Path(source))


def copy_checkpoint(source: FilePath, path: FilePath) -> None:
    """Copy a checkpoint to ``path``, whole or not at all. A new file has the rights of ``source``.

    Raises:
        CheckpointWriteError: If the file system refuses.
    """
    if is_sharded(source):
        if is_remote(path):
            raise CheckpointWriteError(f"could not write {path}: {source} is a folder, and a URL takes one file.")
        replace_by_copy(Path(path), Path(source))
        return
    like = None if is_remote(source) else source
    with _replacing(path, like) as copy, _opened(source) as original:
        shutil.copyfileobj(original, copy, COPIED_AT_ONCE)


def remove_checkpoint(path: FilePath) -> None:
    """Delete a checkpoint. It is no error if it does not exist.

    Raises:
        OSError: If the file system refuses.
    """
    if is_remote(path):
        remote.remove(path)
        return
    with suppress(FileNotFoundError):
        if is_folder(Path(path)):
            remove_folder(Path(path))
        else:
            os.unlink(path)


def is_sharded(path: FilePath) -> bool:
    """Return whether the checkpoint at ``path`` would be a sharded one: whether there is a folder."""
    return not is_remote(path) and os.path.isdir(path)


def is_folder_of_shards(path: Path) -> bool:
    """Return whether ``path`` is a sharded checkpoint, which may be damaged, and no other folder."""
    return any((path / name).is_file() for name in (MANIFEST, STATE))


def checkpoint_exists(path: FilePath) -> bool:
    """Return whether there is a file at ``path``. A link whose target is missing counts too."""
    # lexists, as the name of such a link is taken all the same.
    return remote.exists(path) if is_remote(path) else os.path.lexists(path)


def refuse_same_file(source: FilePath, path: FilePath) -> None:
    """Raise an error if what is made of the checkpoint ``source`` would be written over it, by whatever name.

    Raises:
        CheckpointError: If it would.
    """
    with suppress(OSError, ValueError):  # one of them does not exist, or cannot
        # A sharded one is a folder, in which nothing else is to be.
        within = is_sharded(source) and os.path.samefile(source, os.path.dirname(os.path.abspath(path)))
        if within or os.path.samefile(source, path):
            raise CheckpointError(f"{path} is the checkpoint itself, which would be lost. Choose another name.")


def check_folder(folder: FilePath) -> None:
    """Raise an error early, and without writing anything, if checkpoints cannot be written into ``folder``.

    Raises:
        CheckpointWriteError: If they cannot.
    """
    if is_remote(folder):
        remote.check_usable(folder)
    else:
        check_writable(Path(folder))


def _replacing(path: FilePath, like: FilePath | None = None) -> AbstractContextManager[BinaryIO]:
    if is_remote(path):
        return remote.replacing_remote(path)
    return replacing(Path(path), None if like is None else Path(like))


@contextmanager
def _opened(path: FilePath) -> Iterator[BinaryIO]:
    """Open a checkpoint for reading; a remote one is fetched to this machine first."""
    if is_remote(path):
        with remote.fetched(path) as copy:
            yield copy
        return
    try:
        file = open_regular(path)  # closed below; what goes wrong inside is no matter of opening
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(not_found(Path(path))) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    with file:
        yield file


def _sharded(path: FilePath) -> ShardedFiles | None:
    """Return the files of a sharded checkpoint; None if ``path`` is no folder."""
    if not is_sharded(path):
        return None
    return ShardedFiles(path)


@contextmanager
def _state_of(files: ShardedFiles, *, checks: bool = True) -> Iterator[Archive]:
    """Open what is not sharded in a checkpoint, as `_archive` does."""
    with files.open_state(checks=checks) as file:
        try:
            yield Archive(file)
        except ArchiveError as error:
            raise CheckpointError(f"{files.path} {error}") from error
        except OSError as error:
            raise CheckpointError(f"{files.path} cannot be read: {error.strerror or error}.") from error


@contextmanager
def _archive(path: FilePath) -> Iterator[Archive]:
    """Open a checkpoint and look at its list of parts; what is found wrong in the context is said of ``path``.

    It is opened once for all that is read of it: a path may lead to another file from one moment to the next.
    """
    with _opened(path) as file:
        try:
            yield Archive(file)
        except ArchiveError as error:
            raise CheckpointError(f"{path} {error}") from error
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error


def _refusal(archive: Archive, path: FilePath) -> str:
    """Return the message for a file that would have to run code; it names what the file wants to import."""
    wanted: list[str] = []
    # The names only make the message better. Finding them reads the pickle without running it, and may fail.
    with suppress(Exception):
        wanted = foreign_names(archive)
    return (
        f"{path} is refused: loading it would run code ({', '.join(wanted) or 'instructions no tensor needs'}), and "
        "only tensors and plain containers are loaded. If you trust who made the file, make one of it that runs none: "
        f"trainkit checkpoint convert {path} NEW --trust"
    )


def not_found(path: Path) -> str:
    """Return the message for a missing checkpoint: its path, the newest ones in that folder, the nearest name."""
    others: list[Path] = []
    with suppress(OSError, ValueError):  # a folder that there cannot be
        others = sorted(path.parent.glob("*.ckpt"), key=_modified, reverse=True)
    lines = [f"there is no checkpoint {path}."]
    if others:
        names = [other.name for other in others]
        lines.append(f"    in that folder {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}")
        nearest = nearest_name(path.name, names)
        lines += [] if nearest is None else [f"    did you mean   {nearest!r}?"]
    if path.name in ("last", "best"):
        lines.append(f"    {path.name!r} is a word of ckpt_path; here the path of a file is needed")
    return "\n".join(lines)


def _modified(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:  # deleted meanwhile
        return 0.0
