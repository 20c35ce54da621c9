"""Starts a script on several ranks, without torchrun, and collects what came of each."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

LIMIT_S = 110


class Ended(NamedTuple):
    """How a rank has ended: its exit code, and all that it has printed."""

    code: int
    text: str


class Ranks:
    """A script that runs on several ranks.

    Args:
        script: The path of the script.
        arguments: What it is given.
        world_size: How many ranks there are.
    """

    def __init__(self, script: str, *arguments: object, world_size: int = 2) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path]),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(world_size),
        }
        self._processes = [
            subprocess.Popen(
                [sys.executable, script, *map(str, arguments)],
                env={**common, "RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(world_size)
        ]

    def ended_as_one(self) -> Sequence[Ended]:
        """Do as torchrun does: when one rank has failed, ask the others to end."""
        deadline_s = time.monotonic() + LIMIT_S
        while all(process.poll() is None for process in self._processes) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        if any(process.poll() for process in self._processes):
            for process in self._processes:
                process.terminate()
        return self.ended()

    def ended(self) -> Sequence[Ended]:
        """Wait until all ranks have ended; one that hangs is killed, and has the code -9."""
        found = []
        for process in self._processes:
            try:
                text, _ = process.communicate(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                text, _ = process.communicate()
            found.append(Ended(process.returncode, text))
        return found
