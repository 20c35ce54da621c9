"""Which file of a folder is the table of its run: never one that somebody else has put there."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from trainkit.loggers.csv_table import header_of
from trainkit.loggers.run_mark import marks_in
from trainkit.storage.regular import open_own


def table_in(folder: str | os.PathLike[str]) -> Path:
    """Return the path of the table of the run in ``folder``; there may be none yet.

    It is ``metrics.csv``, or where that is somebody else's, ``metrics-v1.csv`` and so on. The last of these names that
    is taken decides: what comes before it was found to be somebody else's, whatever has become of the folder since.
    """
    paths = (Path(folder, f"metrics-v{number}.csv" if number else "metrics.csv") for number in itertools.count())
    path = next(paths)
    for following in paths:
        if not os.path.lexists(following):
            return path if _is_of_a_run(path) else following
        path = following
    raise AssertionError("numbers do not end")


def _is_of_a_run(path: Path) -> bool:
    """Return whether a run may write to ``path``: nothing is there, or nothing is in it, or a run has written it."""
    if not os.path.lexists(path):
        return True
    try:
        with open_own(path) as file:
            header = header_of(file)
    except OSError:
        return False
    # The mark alone says that a run has written into the folder, and the header alone may be a coincidence.
    return header == [] or (header is not None and bool(marks_in(path.parent)))
