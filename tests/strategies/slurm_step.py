"""What SLURM sets in the tasks of a job step, after the manual page of srun."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby


def step_variables(
    tasks_per_node: Sequence[int], task: int, *, job: int = 4711, step: int = 0, hosts: str = ""
) -> dict[str, str]:
    """Return the variables of task number ``task`` of a step with so many tasks on each of its nodes, block by block.

    Args:
        tasks_per_node: How many tasks each node has.
        task: The number of the task among all.
        job: The number of the job.
        step: The number of the step.
        hosts: The list of the nodes; by default ``node[0-N]``.
    """
    node, before = 0, 0
    while task >= before + tasks_per_node[node]:
        before += tasks_per_node[node]
        node += 1
    nodes, total = len(tasks_per_node), sum(tasks_per_node)
    listed = hosts or (f"node[0-{nodes - 1}]" if nodes > 1 else "node0")
    variables = {
        "SLURM_JOB_ID": job,
        "SLURM_STEP_ID": step,
        "SLURM_PROCID": task,
        "SLURM_LOCALID": task - before,
        "SLURM_NODEID": node,
        "SLURM_NTASKS": total,
        "SLURM_STEP_NUM_TASKS": total,
        "SLURM_STEP_NUM_NODES": nodes,
        "SLURM_STEP_TASKS_PER_NODE": per_node(tasks_per_node),
        "SLURM_STEP_NODELIST": listed,
        "SLURM_JOB_NODELIST": listed,
    }
    return {name: str(value) for name, value in variables.items()}


def per_node(counts: Sequence[int]) -> str:
    """Return ``counts`` as SLURM writes them: 2(x3),1."""
    groups = [(count, len(list(group))) for count, group in groupby(counts)]
    return ",".join(f"{count}(x{times})" if times > 1 else str(count) for count, times in groups)
