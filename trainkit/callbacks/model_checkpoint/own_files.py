"""Which files a callback has written: those that it may replace and delete, whatever the paths in a checkpoint say."""

from __future__ import annotations

import os

from trainkit.checkpoint.head import mark_of
from trainkit.storage.places import lies_in, real


class OwnFiles:
    """Tells the files that a run has written from all others. Ask at the moment at which a file is replaced or deleted.

    Which files a run that goes on had written is in its checkpoint, and a path in a file is no more than a name: it may
    lead anywhere. So a file is the run's own if it lies directly in a folder into which the callback writes, and was
    written by this process, or has the mark of the run in it, which only files of the run have.

    Args:
        suffix: How the names of checkpoints end.

    Attributes:
        mark: That of the run; empty if it has none.
    """

    def __init__(self, suffix: str) -> None:
        self.mark = ""
        self._suffix = suffix
        self._folders: set[str] = set()
        self._goes_below = False
        self._written: set[str] = set()

    def begin(self, folder: str, mark: str, *, goes_below: bool = False) -> None:
        """Begin a run with this mark, which writes into ``folder``, or also into folders in it."""
        self.mark, self._goes_below = mark, goes_below
        self._folders = {real(folder)}

    def note(self, path: str) -> None:
        """Note that this process has written ``path``. By its template it may be in a folder below that of the run."""
        self._folders.add(real(os.path.dirname(path)))
        self._written.add(self.place_of(path))

    def place_of(self, path: object) -> str:
        """Return where a checkpoint is in a folder of this callback, without links; empty if it is anywhere else."""
        if not isinstance(path, str) or not path.endswith(self._suffix):
            return ""
        folder, name = os.path.split(path)
        # fsspec reads "a::b" as a way through several file systems.
        folder = "" if "::" in name else real(folder)
        return os.path.join(folder, name) if self._writes_into(folder) else ""

    def _writes_into(self, folder: str) -> bool:
        below = self._goes_below and any(lies_in(folder, each) for each in self._folders)
        return folder in self._folders or below

    def has(self, path: object) -> bool:
        """Whether ``path`` is a checkpoint that this run has written. May read a part of the file, or fetch it."""
        place = self.place_of(path)
        return bool(place) and (place in self._written or (bool(self.mark) and mark_of(place) == self.mark))
