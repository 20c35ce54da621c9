"""Whether the process of another rank is still there, where it runs on this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


def this_process() -> dict[str, Any]:
    """Return how other processes find this one: its number, and where that number means it."""
    return {"pid": os.getpid(), "machine": _machine()}


def has_ended(process: Mapping[str, Any]) -> bool:
    """Return whether a process has ended. False where that cannot be known: on another machine, in another container.

    Args:
        process: What `this_process` has returned in it.
    """
    if process["machine"] != _machine():
        return False
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # it is there, and another user's
    try:
        # The state stands behind the name in parentheses. A zombie has ended, and its parent has not asked for it yet.
        return (_PROC / str(process["pid"]) / "stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except (OSError, IndexError):
        return False  # no Linux


def _machine() -> str:
    """Return a name for all processes among which a number stands for one."""
    try:
        # A container may have the name of another one, and numbers of its own.
        space = os.readlink(_PROC / "self" / "ns" / "pid")
        boot = (_PROC / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
    except OSError:
        space = boot = ""
    return f"{platform.node()} {boot} {space}"
