"""A file of TensorBoard events, written without TensorFlow and without a thread."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Mapping

from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

PREFIX = "events.out.tfevents."

_FILES_OF_THIS_PROCESS = itertools.count()


class EventFile:
    """A new event file in ``folder``, which is made.

    TensorBoard's own writer starts a thread, in which a full disk is found too late to name the row that was lost.

    Args:
        folder: Where to.
        flush_secs: Seconds after which what was added can be read at the latest, when something is added then.

    Attributes:
        path: The file.
    """

    def __init__(self, folder: str, flush_secs: float) -> None:
        os.makedirs(folder, exist_ok=True)
        self._flush_secs = flush_secs
        self._flushed_at = time.monotonic()
        # Readers take the files of a folder in the order of their names, and those of a SummaryWriter, which may follow
        # within the second, have bare digits where ours have "+", which sorts before them.
        number = f"{os.getpid()}.+{next(_FILES_OF_THIS_PROCESS):04d}"
        self.path = os.path.join(folder, f"{PREFIX}{int(time.time()):010d}.{socket.gethostname()}.{number}")
        self._records = RecordWriter(open(self.path, "xb"))  # noqa: SIM115  # closed by close()
        self._add(Event(file_version="brain.Event:2", source_metadata=SourceMetadata(writer="trainkit")))
        self.flush()

    def add_summary(self, summary: Summary, global_step: int) -> None:
        """Add values at a step."""
        self._add(Event(step=global_step, summary=summary))
        if time.monotonic() - self._flushed_at >= self._flush_secs:
            self.flush()

    def flush(self) -> None:
        """Make everything readable that was added."""
        self._records.flush()
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Flush and let go of the file."""
        self._records.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def sizes_of_files(folder: str) -> dict[str, int]:
    """Return the event files in ``folder``, of whatever writer, and their sizes in bytes."""
    if not os.path.isdir(folder):
        return {}
    names = [name for name in sorted(os.listdir(folder)) if name.startswith(PREFIX)]
    return {name: os.path.getsize(os.path.join(folder, name)) for name in names}


def cut_files(folder: str, sizes: Mapping[str, int], *, keep: str | None) -> None:
    """Cut the event files in ``folder`` back to ``sizes``, and delete those that are not in it.

    Args:
        folder: Where they are.
        sizes: What `sizes_of_files` returned when they were that long: they only grow, record by record.
        keep: The name of one that is left alone.
    """
    for name, size in sizes_of_files(folder).items():
        path = os.path.join(folder, name)
        if name == keep:
            continue
        if name not in sizes:
            os.unlink(path)
        elif sizes[name] < size:
            os.truncate(path, sizes[name])
