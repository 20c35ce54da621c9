"""From a value to an archive: what ``torch.save`` does, with checksums and with the errors of the file system."""

from __future__ import annotations

import threading
from typing import Any, BinaryIO, cast

import torch

from trainkit.errors import CheckpointError
from trainkit.storage.storable import conflicting_views


def save(value: Any, file: BinaryIO) -> None:
    """Write ``value`` into ``file`` as ``torch.save`` does, with checksums.

    Raises:
        CheckpointError: If torch cannot save it.
        OSError: If a write fails, such as that of a full disk.
    """
    # Into a file object, not to a path: there torch writes in C++, and turns a full disk into a RuntimeError.
    sink = _ErrorKeepingFile(file)
    try:
        with _CHECKSUMS:
            torch.save(value, cast("BinaryIO", sink))
    except OSError:
        raise
    except Exception as error:
        if sink.error is None:
            raise CheckpointError(_unwritable(value, error)) from error
    # In place of whatever torch made of it.
    if sink.error is not None:
        raise sink.error


class _Checksums:
    """A context in which torch writes checksums, which a program may have switched off: no file can be read without.

    The option may belong to the process, where a save that ends must not switch them off for one in another thread. The
    last one gives the option back, and none waits for another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._saves = 0
        self._given = True

    def __enter__(self) -> None:
        with self._lock:
            if not self._saves:
                self._given = torch.serialization.get_crc32_options()
            self._saves += 1
            torch.serialization.set_crc32_options(True)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._saves -= 1
            if not self._saves:
                torch.serialization.set_crc32_options(self._given)


_CHECKSUMS = _Checksums()


class _ErrorKeepingFile:
    """Writes to a file, and keeps the first OSError: torch's writer may replace it by a RuntimeError on positions."""

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


def _unwritable(value: Any, error: Exception) -> str:
    """Return the message for a checkpoint that ``torch.save`` refuses; it names what torch does not."""
    why = conflicting_views(value) or f"torch says: {error}"
    return f"this checkpoint cannot be written: {why}. Look at what each state_dict and on_save_checkpoint puts in."
