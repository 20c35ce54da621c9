"""``summary.json``: how a run has ended, how far it came, and its best values."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainkit.record.json_file import read_json, write_json

NAME = "summary.json"

RUNNING = "running"
KILLED = "killed"


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json`` into ``folder``, in the place of that of an earlier start.

    Raises:
        OSError: If the file system refuses.
    """
    write_json(folder / NAME, summary)


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


def ended(folder: Path) -> str | None:
    """Return how the run in ``folder`` has ended, in one word; None if nothing tells."""
    found = read_json(folder / NAME) or {}
    status = found.get("status")
    if not isinstance(status, str):
        return None
    return KILLED if status == RUNNING and _is_gone(found) else status


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
