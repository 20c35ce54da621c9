"""``summary.json``: how a run has ended, how far it came, and its best values."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainkit.record.json_file import path_of_own, read_json, write_json

NAME = "summary"

RUNNING = "running"
KILLED = "killed"

_STATUS = (RUNNING, "finished", "stopped", "interrupted", "failed")


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json`` into ``folder``, in the place of that of an earlier start.

    A file of that name that is none of a run is left as it is: then it is ``summary-v1.json``.

    Args:
        folder: The folder of the run.
        summary: What to write; its ``status`` and ``started`` say that it is one of a run.

    Raises:
        OSError: If the file system refuses.
    """
    write_json(path_of_own(folder, NAME, _is_summary), summary)


def write_running(folder: Path, started: str) -> None:
    """Write that a run is going on, which stays the summary of one that is killed.

    Args:
        folder: The folder of the run.
        started: When it was started.

    Raises:
        OSError: If the file system refuses.
    """
    process = {"host": socket.gethostname(), "process": os.getpid()}
    write_summary(folder, {"status": RUNNING, "started": started, **process})


def summary_in(folder: Path) -> dict[str, Any]:
    """Return the summary of the run in ``folder``; an empty one if there is none."""
    return read_json(path_of_own(folder, NAME, _is_summary)) or {}


def ended(summary: Mapping[str, Any]) -> str | None:
    """Return how the run of a summary has ended, in one word; None if nothing tells."""
    if not _is_summary(summary):
        return None
    status: str = summary["status"]
    return KILLED if status == RUNNING and _is_gone(summary) else status


def _is_summary(found: Mapping[str, Any]) -> bool:
    return found.get("status") in _STATUS and isinstance(found.get("started"), str)


def _is_gone(running: Mapping[str, Any]) -> bool:
    """Return whether the process that has written ``running`` is known to be gone: it was one of this machine."""
    process = running.get("process")
    if running.get("host") != socket.gethostname() or type(process) is not int or process <= 0 or os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass  # it is that of another user
    return False
