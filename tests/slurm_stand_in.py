"""A stand-in for srun and scontrol, on one machine: ``python -m tests.slurm_stand_in {srun,scontrol} ...``.

It starts the tasks of a job's step with what SLURM sets in them, passes signals on to all, and ends with the highest
code, as the manual page of srun has it. What was done is noted in the folder STAND_IN.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from tests.strategies.slurm_step import step_variables

HOSTS = "127.0.0.[1-9]"
"""The names of the nodes, all of which are this machine."""


def install(folder: Path) -> dict[str, str]:
    """Write the commands into ``folder``; return the variables with which a batch script finds them."""
    for name in ("srun", "scontrol", "python"):
        module = "" if name == "python" else f"-m tests.slurm_stand_in {name} "
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module}"$@"\n')
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "STAND_IN": str(folder)}


def srun(command: list[str], folder: Path) -> int:
    nodes, tasks = int(os.environ["SLURM_NNODES"]), int(os.environ["SLURM_NTASKS_PER_NODE"])
    job = int(os.environ["SLURM_JOB_ID"])
    started = [
        subprocess.Popen(command, env=os.environ | step_variables([tasks] * nodes, task, job=job, hosts=HOSTS))
        for task in range(nodes * tasks)
    ]
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda received, frame: [each.send_signal(received) for each in started])
    (folder / "srun.pid").write_text(str(os.getpid()))
    codes = [each.wait() for each in started]
    return max(code if code >= 0 else 128 - code for code in codes)


def main() -> None:
    name, *arguments = sys.argv[1:]
    folder = Path(os.environ["STAND_IN"])
    if name == "srun":
        sys.exit(srun(arguments, folder))
    with (folder / "scontrol.txt").open("a") as told:
        told.write(f"{shlex.join(arguments)}\n")


if __name__ == "__main__":
    main()
