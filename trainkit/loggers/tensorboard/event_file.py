"""TensorBoard event files, written without TensorFlow and in the caller's thread (docs/design/0009-event-files.md)."""

from __future__ import annotations

import itertools
import os
import socket
import stat
import time
from contextlib import suppress

from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

PREFIX = "events.out.tfevents."

OF_TRAINING = ".trainkit.fit"
"""How the names of those files end whose rows a run that goes on logs again; all others are left alone."""

# In file names, because one process may open several files within one second.
_FILES_OF_THIS_PROCESS = itertools.count()


class EventFile:
    """A new event file in ``folder``, which is created if it is missing.

    TensorBoard's own writer hands events to a thread, which finds a full disk too late to name the row that was lost.

    Args:
        folder: The folder of the file.
        flush_secs: Seconds after which the next event that is added flushes the file.
        suffix: Put behind its name.

    Attributes:
        path: The path of the file.
    """

    def __init__(self, folder: str, flush_secs: float, suffix: str = "") -> None:
        os.makedirs(folder, exist_ok=True)
        self._flush_secs = flush_secs
        self._flushed_at = time.monotonic()
        # Readers take the files of a folder in the order of their names, and those of a SummaryWriter, which may follow
        # within the second, have bare digits where ours have "+", which sorts before them.
        number = f"{os.getpid()}.+{next(_FILES_OF_THIS_PROCESS):04d}"
        self.path = os.path.join(folder, f"{PREFIX}{int(time.time()):010d}.{socket.gethostname()}.{number}{suffix}")
        self._records = RecordWriter(open(self.path, "xb"))  # noqa: SIM115  # closed by close()
        # Readers expect the version of the format as the first event.
        try:
            self._add(Event(file_version="brain.Event:2", source_metadata=SourceMetadata(writer="trainkit")))
            self.flush()
        except OSError:
            # On a full disk each row is a new try, and would leave an empty file.
            self._abandon()
            os.unlink(self.path)
            raise

    def add_summary(self, summary: Summary, global_step: int) -> None:
        """Write values at a step, and flush if ``flush_secs`` have passed since the last flush."""
        self._add(Event(step=global_step, summary=summary))
        if time.monotonic() - self._flushed_at >= self._flush_secs:
            self.flush()

    def flush(self) -> None:
        """Hand everything that was added to the operating system, so that other processes can read it."""
        self._records.flush()
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Flush and close the file."""
        self._records.close()

    def _abandon(self) -> None:
        """Close the file, whatever becomes of what was not flushed."""
        with suppress(OSError):
            self._records.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def suffix_of_training(mark: str) -> str:
    """Return how the name of a file of training ends that a run makes in the folder with ``mark``; "" for no mark."""
    return f".{mark}{OF_TRAINING}" if mark else OF_TRAINING


def sizes_of_files(folder: str) -> dict[str, int]:
    """Return the names of the event files of training in ``folder``, with their sizes in bytes.

    Links are left out: what they lead to may be the events of another run, of which no row is to be removed.
    """
    if not os.path.isdir(folder):
        return {}
    names = [name for name in sorted(os.listdir(folder)) if name.startswith(PREFIX) and name.endswith(OF_TRAINING)]
    states = {name: os.lstat(os.path.join(folder, name)) for name in names}
    return {name: state.st_size for name, state in states.items() if stat.S_ISREG(state.st_mode)}
