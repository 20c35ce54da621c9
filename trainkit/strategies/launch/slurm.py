"""What SLURM tells a task of a job step: its place among the others, and where they meet.

A program that runs in an allocation without ``srun``, as in ``salloc`` or in a batch script, is no task of a step.
"""

from __future__ import annotations

import os
import re
from itertools import chain, repeat

from trainkit.errors import DeviceError
from trainkit.strategies.launch.variables import number_of

FIRST_PORT, PORTS = 10_000, 20_000
"""The ports of which one follows from a job's number: below those that systems give to whoever asks for any."""


def in_step() -> bool:
    """Return whether this process is a task that ``srun`` has started together with others."""
    # In a batch script and in a shell of salloc SLURM_NTASKS is that of the job, and no other task has been started.
    return "SLURM_PROCID" in os.environ and _tasks_of_step() > 1


def place_in_step() -> dict[str, int]:
    """Return rank, local_rank, world_size and local_world_size of this task."""
    world_size = _tasks_of_step()
    return {
        "rank": number_of("SLURM_PROCID"),
        "local_rank": number_of("SLURM_LOCALID"),
        "world_size": world_size,
        "local_world_size": _tasks_of_node(world_size),
    }


def tasks_not_started() -> int:
    """Return how many tasks this job has been given, where the program runs without ``srun``; 0 where it does not."""
    if "SLURM_JOB_ID" not in os.environ or "SLURM_STEP_ID" in os.environ:
        return 0
    return number_of("SLURM_NTASKS", 0)


def first_host() -> str:
    """Return the host of the first task.

    Raises:
        DeviceError: If SLURM does not name the hosts.
    """
    if number_of("SLURM_STEP_NUM_NODES", number_of("SLURM_NNODES", 0)) == 1:
        return "localhost"  # which is known by its name everywhere
    hosts = next((os.environ[name] for name in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST") if name in os.environ), "")
    # "node[003-005,7],other": the first of each range, up to the first comma.
    host = re.sub(r"\[([^],-]*)[^]]*\]", r"\1", hosts).partition(",")[0]
    if not host:
        raise DeviceError("SLURM_JOB_NODELIST names no host, so the tasks of this step do not know where to meet.")
    return host


def port_of_step() -> int:
    """Return the port at which the tasks of this step meet: another one than those of most other steps and jobs."""
    job, step = number_of("SLURM_JOB_ID", 0), number_of("SLURM_STEP_ID", 0)
    return FIRST_PORT + (job + 1009 * step) % PORTS


def _tasks_of_step() -> int:
    if "SLURM_STEP_NUM_TASKS" in os.environ:
        return number_of("SLURM_STEP_NUM_TASKS")
    # An older srun tells the number of a step under the name of that of the job.
    return number_of("SLURM_NTASKS", 1) if "SLURM_STEP_ID" in os.environ else 1


def _tasks_of_node(world_size: int) -> int:
    """Return how many tasks of the step run on this node."""
    text = os.environ.get("SLURM_STEP_TASKS_PER_NODE", os.environ.get("SLURM_TASKS_PER_NODE", str(world_size)))
    # "2(x3),1": two on each of three nodes, and one on a fourth.
    groups = [re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", group.strip()) for group in text.split(",")]
    counts = list(chain.from_iterable(repeat(int(group[1]), int(group[2] or 1)) for group in groups if group))
    node = number_of("SLURM_NODEID", 0)
    if None in groups or node >= len(counts):
        raise DeviceError(
            f"SLURM_STEP_TASKS_PER_NODE={text!r} does not say how many tasks node {node} has. An example is '2(x3),1'."
        )
    return counts[node]
