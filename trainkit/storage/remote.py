"""Files at URLs such as ``s3://bucket/run/last.ckpt``, read and written through fsspec.

Whole files travel, by way of a temporary one on this machine: verifying and loading seek to and fro, and a write that
fails halfway must leave nothing at the URL.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from trainkit.errors import CheckpointError, CheckpointNotFoundError, CheckpointWriteError
from trainkit.storage.atomic_write import COPIED_AT_ONCE, replacing

FilePath = str | os.PathLike[str]
"""A path on this machine, or a URL that fsspec knows."""

_ON_THIS_MACHINE = ("file://", "local://")


def is_remote(path: FilePath) -> bool:
    """Return whether a path is a URL."""
    return "://" in os.fspath(path)


@contextmanager
def replacing_remote(url: FilePath) -> Iterator[BinaryIO]:
    """Open a temporary file for writing, which is sent to ``url`` at the end of the block.

    It is sent in one transaction, so that a file that was sent in part is discarded where the file system can do that.
    What is a temporary file there, and who may read the new one, is up to the file system.

    Raises:
        CheckpointWriteError: If the file system refuses, or there is none for such a URL.
    """
    if os.fspath(url).startswith(_ON_THIS_MACHINE):
        # fsspec would move a file of the temporary folder there, which from another file system is no rename, and would
        # give a private file the usual rights.
        with replacing(Path(_system(url)[1])) as file:
            yield file
        return
    with tempfile.TemporaryFile() as local:
        # Outside of `_refusing`: what goes wrong in the block is no error of the remote file system.
        yield local
        local.seek(0)
        with _refusing(url, CheckpointWriteError, "could not write {}: {}. What was written before is untouched."):
            system, name = _system(url)
            system.makedirs(name.rpartition("/")[0], exist_ok=True)
            with system.transaction, system.open(name, "wb") as remote:
                shutil.copyfileobj(local, remote, COPIED_AT_ONCE)


@contextmanager
def fetched(url: FilePath) -> Iterator[BinaryIO]:
    """Open a copy of the file at ``url``, on this machine, for reading.

    Raises:
        CheckpointNotFoundError: If there is none.
        CheckpointError: If it cannot be read.
    """
    with tempfile.TemporaryFile() as local:
        with _refusing(url, CheckpointError, "{} cannot be read: {}."):
            system, name = _system(url)
            with system.open(name, "rb") as remote:
                shutil.copyfileobj(remote, local, COPIED_AT_ONCE)
        local.seek(0)
        yield local


def exists(url: FilePath) -> bool:
    """Return whether there is something at ``url``."""
    with _refusing(url, CheckpointError, "{} cannot be read: {}."):
        system, name = _system(url)
        return bool(system.exists(name))


def remove(url: FilePath) -> None:
    """Delete the file at ``url``. It is no error if it does not exist.

    Raises:
        OSError: If the file system refuses.
    """
    system, name = _system(url)
    if system.exists(name):
        system.rm_file(name)


def find(url: FilePath, suffix: str) -> dict[str, int]:
    """Return the URLs of the files below ``url`` that end with ``suffix``, with the time of writing in nanoseconds."""
    with _refusing(url, CheckpointError, "{} cannot be read: {}."):
        base = os.fspath(url).rstrip("/")
        system, name = _system(base)
        # fsspec answers with names inside of the file system; callers go on with URLs.
        names = [found for found in system.find(name) if found.endswith(suffix)]
        return {base + found.removeprefix(name): int(system.modified(found).timestamp() * 1e9) for found in names}


def check_usable(url: FilePath) -> None:
    """Raise an error early, and without writing anything, if there is no file system for ``url``.

    Raises:
        CheckpointWriteError: If there is none, or its package is not installed.
    """
    with _refusing(url, CheckpointWriteError, "{} cannot be written to: {}."):
        _system(url)


def _system(url: FilePath) -> tuple[Any, str]:
    """Return the file system of ``url``, and the name of the file in it."""
    # Imported here: torch brings it along, and few runs need it.
    from fsspec.core import url_to_fs

    system, name = url_to_fs(os.fspath(url))
    return system, str(name)


@contextmanager
def _refusing(url: FilePath, kind: type[CheckpointError], message: str) -> Iterator[None]:
    """Raise ``kind`` for any exception inside: each package behind a kind of URL has exceptions of its own.

    Args:
        url: What the error names.
        kind: The error to raise; a missing file is a `CheckpointNotFoundError` in any case.
        message: A template with places for the URL and the reason.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(f"there is no checkpoint {os.fspath(url)}.") from error
    except Exception as error:
        refused = kind(message.format(os.fspath(url), str(error) or type(error).__name__))
        if isinstance(refused, CheckpointWriteError):
            refused.errno = getattr(error, "errno", None)
        raise refused from error
