"""The events behind the checkpoint from which a run goes on, in files that only grow at their ends."""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from trainkit.loggers.rows_behind import Row, RowsBehind
from trainkit.loggers.run_mark import marks_in
from trainkit.loggers.tensorboard.event_file import sizes_of_files, suffix_of_training
from trainkit.output import warn
from trainkit.storage.temporary import replacement

_HEAD = struct.Struct("<QI")
"""What each record begins with: the number of bytes in it, and the checksum of that number."""
_CHECKSUM_BYTES = 4
HPARAMS = "_hparams_/"
"""What the tags of records for the page of hyperparameters begin with. They are no rows."""


class EventsBehind(RowsBehind):
    """The events of training in a folder that were written after a checkpoint.

    A file counts that the checkpoint names, or that has the mark of the folder in its name. Others may have been copied
    there from another run.

    Args:
        folder: The folder of the files.
        sizes: What `sizes_of_files` returned when the checkpoint was saved.
        keep: The name of a file that is left as it is, since it is the one that is open; None for none.

    Attributes:
        settled: For each file with such events its name, and the size that it had at the checkpoint; 0 if it was not
            there.
    """

    def __init__(self, folder: str, sizes: Mapping[str, int], *, keep: str | None) -> None:
        self._folder = folder
        ends = tuple(map(suffix_of_training, marks_in(folder)))
        self._removed = 0
        self._lengths: dict[str, deque[int]] = {}  # of the events that are left, by file
        self.settled = {
            name: sizes.get(name, 0)
            for name, size in sizes_of_files(folder).items()
            if name != keep
            and (name in sizes or name.endswith(ends))
            and size > sizes.get(name, 0)
            and _goes_on(os.path.join(folder, name), sizes.get(name, 0))
        }
        rows: list[Row] = []
        self._files: list[str] = []  # for each row the file that it is in
        for name, start in self.settled.items():
            found = list(_rows(os.path.join(folder, name), start))
            rows += [row for row, _ in found]
            self._files += [name] * len(found)
            self._lengths[name] = deque(length for _, length in found)
        super().__init__(rows)

    def remove_passed(self) -> None:
        """Remove the events that the run has passed. A kill in between leaves each file with them or without them."""
        newly = self._files[self._removed : self.passed]
        for name in dict.fromkeys(newly):
            self._remove(name, newly.count(name))
        self._removed = self.passed
        if self.are_passed:
            # With what is no row, such as how the run had ended.
            for name in self.settled:
                self._remove(name, len(self._lengths[name]))

    def _remove(self, name: str, number: int) -> None:
        path, start, lengths = os.path.join(self._folder, name), self.settled[name], self._lengths[name]
        if not os.path.exists(path):
            return
        if number == len(lengths):
            if start:
                os.truncate(path, start)
            else:
                os.unlink(path)
            lengths.clear()
            return
        with open(path, "rb") as old, replacement(Path(path)) as new:
            new.write(old.read(start or _end_of_record(path)))
            old.seek(sum(lengths[place] for place in range(number)), os.SEEK_CUR)
            new.write(old.read())
        for _ in range(number):
            lengths.popleft()


def _rows(path: str, start: int) -> Iterator[tuple[Row, int]]:
    """Yield the rows in the file at ``path`` from byte ``start`` on, each with its length in bytes."""
    start = start or _end_of_record(path)
    with open(path, "rb") as file:
        file.seek(start)
        while (data := _record(file)) is not None:
            event = Event.FromString(data)
            tags = frozenset(value.tag for value in event.summary.value)
            # An event that is no row goes with the next one that is.
            if tags and not any(tag.startswith(HPARAMS) for tag in tags):
                yield (event.step, tags), file.tell() - start
                start = file.tell()


def _goes_on(path: str, start: int) -> bool:
    """Return whether what is behind ``start`` are records, or what a kill has left of one. If not, it is told."""
    with open(path, "rb") as file:
        file.seek(start)
        head = file.read(_HEAD.size)
    if len(head) < _HEAD.size or _is_head(head):
        return True
    # The number is from a file, or the disk was full when it was noted. To cut there would make records unreadable.
    warn(
        f"{path} is left as it is: in it no record ends at byte {start}, where it ended by what the checkpoint says. "
        "What the run logs again is in TensorBoard twice."
    )
    return False


def _is_head(head: bytes) -> bool:
    return len(head) == _HEAD.size and masked_crc32c(head[:-_CHECKSUM_BYTES]) == _HEAD.unpack(head)[1]


def _end_of_record(path: str) -> int:
    """Return where the first record of the file at ``path`` ends; every file begins with its version."""
    with open(path, "rb") as file:
        return 0 if _record(file) is None else file.tell()


def _record(file: BinaryIO) -> bytes | None:
    """Read one record; None at the end, and where there is none, or half of one that a kill has left."""
    head = file.read(_HEAD.size)
    # A number that is no length could be one that no memory holds.
    if not _is_head(head) or (length := _HEAD.unpack(head)[0]) > os.fstat(file.fileno()).st_size:
        return None
    data = file.read(length)
    return data if len(data) == length and len(file.read(_CHECKSUM_BYTES)) == _CHECKSUM_BYTES else None
