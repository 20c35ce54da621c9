"""Where a run is: Python, the machine, and the versions of all packages that are installed."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import socket
from contextlib import suppress
from typing import Any

import trainkit


def environment() -> dict[str, Any]:
    """Return what is there: ``python``, ``platform``, ``host``, and ``packages`` with their versions by name."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "packages": dict(_packages()),
    }


@functools.cache  # tens of milliseconds, and a process has imported what it runs
def _packages() -> dict[str, str]:
    found = {"trainkit": trainkit.__version__}  # it need not be installed
    for each in importlib.metadata.distributions():
        # What a broken installation has left may be unreadable, or have no name.
        with suppress(Exception):
            name, version = each.metadata["Name"], each.metadata["Version"]
            if name and version:
                found.setdefault(name, version)  # of two of one name the first is imported
    return {name: found[name] for name in sorted(found, key=str.lower)}
