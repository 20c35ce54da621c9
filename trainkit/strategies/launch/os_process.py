"""When processes of this machine began and whether they have ended, as far as the operating system tells."""

from __future__ import annotations

import functools
import os
import socket
import time
from pathlib import Path
from typing import NamedTuple

_IMPORTED_AT_S = time.time()


class Process(NamedTuple):
    """A process, as others can look for it.

    Attributes:
        machine: Where its number means something: a machine, or a container with numbers of its own.
        pid: Its number there.
        began: When it began, as the kernel writes it, since a number may be given again; empty where it tells nothing.
    """

    machine: str
    pid: int
    began: str

    @classmethod
    def this(cls) -> Process:
        """Return the process that asks."""
        pid = os.getpid()
        return cls(_machine(), pid, _began(pid))

    def has_ended(self) -> bool:
        """Whether it has ended, without having told; False also where that cannot be known."""
        return bool(self.began) and self.machine == _machine() and _began(self.pid) != self.began


@functools.cache
def began_at_s() -> float:
    """Return when this process began, in seconds since 1970; where the system does not tell, when it came here."""
    began = _began(os.getpid())
    if not began:
        return _IMPORTED_AT_S
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + int(began) / os.sysconf("SC_CLK_TCK")


def _machine() -> str:
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _began(pid: int) -> str:
    """Return when the process ``pid`` began; empty if it has ended, or the system does not tell."""
    try:
        # Behind the name, in which there may be anything: its state, and 19 fields on its beginning.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # One that has ended is there as long as its parent has not asked for its exit code.
    return "" if fields[0] in "ZX" else fields[19]
