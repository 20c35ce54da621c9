"""The names of temporary files and folders, which no one else gives."""

from __future__ import annotations

import functools
import re
import secrets
from pathlib import Path

PATTERN = re.compile(r"\.trainkit-([0-9a-f]{8})-[0-9a-f]{16}\.tmp")
"""The names of temporary files: the kernel under which one was made, and a random number."""


def temporary_for(path: Path) -> Path:
    """Return a name for what is to become ``path``: in the same folder, as a rename cannot leave a file system."""
    # Random: two that write one path, in whatever containers or machines, must not write into one file. Not by the
    # module of that name, which draws the same in forked processes, and whose state belongs to the run.
    return path.with_name(f".trainkit-{kernel()}-{secrets.token_hex(8)}.tmp")


@functools.cache
def kernel() -> str:
    """Return what tells the running kernel from all others: containers share it, and a reboot changes it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:  # not Linux: as if each process were a machine of its own
        return secrets.token_hex(4)
