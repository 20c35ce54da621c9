"""A victim under torch's elastic agent, all forked from this process: nothing is imported anew for each start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from multiprocessing import get_context
from pathlib import Path
from typing import NoReturn

from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tests.rank_kills import victim


class Forked:
    """The agent, as far as `subprocess.Popen` has it."""

    def __init__(self, folder: Path, ranks: int, workers: int, max_restarts: int) -> None:
        self._process = get_context("fork").Process(target=_be_agent, args=(folder, ranks, workers, max_restarts))
        self._process.start()
        assert self._process.pid is not None, "it was started"
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("agent", timeout or 0.0)
        return self._process.exitcode


def _be_agent(folder: Path, ranks: int, workers: int, max_restarts: int) -> NoReturn:
    """Be what ``torchrun --standalone`` is."""
    os.setsid()
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ["OMP_NUM_THREADS"] = "1"
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=max_restarts,
        monitor_interval=0.1,
        start_method="fork",
    )
    try:
        elastic_launch(config, _be_rank)(folder, workers)
    except BaseException as error:
        print(f"agent: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def _be_rank(folder: Path, workers: int) -> None:
    # Those of the agent, which a process that torchrun starts does not have.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    warnings.resetwarnings()  # under pytest they are errors
    victim.run(folder, workers)
