"""Files at URLs such as ``s3://bucket/run/last.ckpt``: read and written through fsspec."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from trainkit.errors import CheckpointError, CheckpointNotFoundError, CheckpointWriteError
from trainkit.storage.atomic_write import COPIED_AT_ONCE

FilePath = str | os.PathLike[str]


def is_remote(path: FilePath) -> bool:
    """Return whether a path is a URL."""
    return "://" in os.fspath(path)


@contextmanager
def replacing_remote(url: FilePath) -> Iterator[BinaryIO]:
    """Give a file to write into that takes the place of ``url`` once it is whole.

    It is written on this machine, and sent in one transaction: what is sent by halves is discarded.

    Raises:
        CheckpointWriteError: If the file system refuses, or there is none for such a URL.
    """
    with tempfile.TemporaryFile() as local:
        yield local
        local.seek(0)
        with _refusing(url, CheckpointWriteError, "could not write {}: {}. What was written before is untouched."):
            system, name = _system(url)
            system.makedirs(name.rpartition("/")[0], exist_ok=True)
            with system.transaction, system.open(name, "wb") as remote:
                shutil.copyfileobj(local, remote, COPIED_AT_ONCE)


@contextmanager
def fetched(url: FilePath) -> Iterator[BinaryIO]:
    """Give a copy of the file at ``url`` to read from.

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
    """Delete the file at ``url``; one that is gone already is no error.

    Raises:
        OSError: If the file system refuses.
    """
    system, name = _system(url)
    if system.exists(name):
        system.rm_file(name)


def find(url: FilePath, suffix: str) -> dict[str, int]:
    """Return the URLs of the files below ``url`` that end with ``suffix``, and when each was written, in ns."""
    with _refusing(url, CheckpointError, "{} cannot be read: {}."):
        base = os.fspath(url).rstrip("/")
        system, name = _system(base)
        names = [found for found in system.find(name) if found.endswith(suffix)]
        return {base + found.removeprefix(name): int(system.modified(found).timestamp() * 1e9) for found in names}


def check_usable(url: FilePath) -> None:
    """Find out early, and without writing anything, whether there is a file system for ``url``.

    Raises:
        CheckpointWriteError: If there is none, or its package is not installed.
    """
    with _refusing(url, CheckpointWriteError, "{} cannot be written to: {}."):
        _system(url)


def _system(url: FilePath) -> tuple[Any, str]:
    # torch brings it along, and few runs need it.
    from fsspec.core import url_to_fs

    system, name = url_to_fs(os.fspath(url))
    return system, str(name)


@contextmanager
def _refusing(url: FilePath, kind: type[CheckpointError], message: str) -> Iterator[None]:
    """Raise ``kind`` for whatever goes wrong inside: the packages behind URLs have errors of their own."""
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(f"there is no checkpoint {os.fspath(url)}.") from error
    except Exception as error:
        refused = kind(message.format(os.fspath(url), str(error) or type(error).__name__))
        if isinstance(refused, CheckpointWriteError):
            refused.errno = getattr(error, "errno", None)
        raise refused from error
