"""Checkpoint files: written whole or not at all, checked before they are trusted, never able to run code."""

from __future__ import annotations

import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from trainkit.checkpoint.atomic_write import replace_by_copy, replace_by_link, replacing
from trainkit.checkpoint.storable import check_storable
from trainkit.errors import CheckpointError, CheckpointNotFoundError, nearest_name

FilePath = str | os.PathLike[str]

_ZIP_START = b"PK\x03\x04"
_FOLDER = 0x10


def write_checkpoint(checkpoint: dict[str, Any], path: FilePath) -> None:
    """Write ``checkpoint`` so that ``path`` holds all of it or what it held before, even if the machine dies meanwhile.

    Folders on the way are made.

    Raises:
        CheckpointError: If something in it could not be read back without running code.
        CheckpointWriteError: If the file system refuses. Nothing is left behind then.
    """
    check_storable(checkpoint)
    with replacing(Path(path)) as file:
        _save(checkpoint, file)


def read_checkpoint(path: FilePath, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint after `verify`; nothing in it is run or imported.

    Args:
        path: The file.
        map_location: Where its tensors go, as in ``torch.load``.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CheckpointError: If it is damaged, is no checkpoint, or would have to run code.
    """
    verify(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path)) from error
    except Exception as error:
        raise CheckpointError(f"{path} cannot be loaded: {error}") from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path} is not a checkpoint: it holds a {type(checkpoint).__name__} instead of a dict.")
    return checkpoint


def verify(path: FilePath) -> None:
    """Compare every part of a checkpoint with its checksum.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CheckpointError: If a part is damaged or missing, or if it is no checkpoint.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(len(_ZIP_START))
            intact = start == _ZIP_START and _has_right_checksums(file)
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(_not_found(Path(path))) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    if start and start != _ZIP_START:
        raise CheckpointError(f"{path} is not a checkpoint: no torch.save since version 1.6 writes such a file.")
    if not intact:
        raise CheckpointError(
            f"{path} is damaged or cut off: it does not match its checksums. Use an older checkpoint."
        )


def link_checkpoint(target: FilePath, link: FilePath) -> None:
    """Let ``link`` lead to the checkpoint ``target``, in place of what it was; a copy where there are no links.

    Raises:
        CheckpointWriteError: If the file system refuses.
    """
    replace_by_link(Path(link), Path(target))


def copy_checkpoint(source: FilePath, path: FilePath) -> None:
    """Copy a checkpoint to ``path``: all of it, or nothing.

    Raises:
        CheckpointWriteError: If the file system refuses.
    """
    replace_by_copy(Path(path), Path(source))


def remove_checkpoint(path: FilePath) -> None:
    """Delete a checkpoint; one that is gone already is no error."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def _save(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    sink = _Sink(file)
    try:
        torch.save(checkpoint, cast("BinaryIO", sink))
    except Exception:
        if sink.error is None:
            raise
    if sink.error is not None:
        raise sink.error


class _Sink:
    """Passes bytes on, and keeps the first OSError: torch's writer may replace it by a RuntimeError about positions."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._file.flush()


def _has_right_checksums(file: BinaryIO) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            # No checksum covers this attribute, and torch.load leaves the tensor of a "folder" uninitialised.
            is_folder = any(part.external_attr & _FOLDER for part in archive.infolist())
            return not is_folder and archive.testzip() is None
    except OSError:
        raise
    except Exception:
        # The archive's directory may be damaged in any way, and break its reader in any way.
        return False


def _refusal(path: FilePath) -> str:
    wanted: list[str] = []
    with suppress(Exception):
        wanted = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return (
        f"{path} is refused: loading it would run code ({', '.join(wanted) or 'instructions no tensor needs'}), and "
        "only tensors and plain containers are loaded. If you trust the file, read it with "
        "torch.load(..., weights_only=False), and save its tensors anew."
    )


def _not_found(path: Path) -> str:
    others = sorted(path.parent.glob("*.ckpt"), key=lambda other: other.lstat().st_mtime, reverse=True)
    lines = [f"there is no checkpoint {path}."]
    if others:
        names = [other.name for other in others]
        lines.append(f"    in that folder {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}")
        nearest = nearest_name(path.name, names)
        lines += [] if nearest is None else [f"    did you mean   {nearest!r}?"]
    return "\n".join(lines)
