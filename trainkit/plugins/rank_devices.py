"""The devices of a strategy with a process for each: starts the processes if nobody has."""

from __future__ import annotations

import torch

from trainkit.errors import ConfigError, DeviceError
from trainkit.output import warn
from trainkit.plugins.devices import Choice, find_devices
from trainkit.strategies.launch import slurm
from trainkit.strategies.launch.environment import Launch
from trainkit.strategies.launch.start_ranks import start_ranks


def asks_for_several(kind: str, choice: Choice) -> bool:
    """Return whether ``devices`` of the Trainer means more than one; ``"auto"`` leaves that to the strategy."""
    return choice != "auto" and (choice != -1 or kind != "cpu") and len(find_devices(kind, choice, 1)) > 1


def find_devices_of_ranks(kind: str, choice: Choice, launch: Launch | None, num_nodes: int) -> list[torch.device]:
    """Return the devices of this machine, one for each process. Does not return if processes have to be started.

    Args:
        kind: ``"cuda"``, ``"mps"`` or ``"cpu"``.
        choice: The result of `parse_devices`.
        launch: The place of this process; None if it was started alone.
        num_nodes: The number of machines that the Trainer was told.

    Raises:
        ConfigError: If processes of other machines would have to be started.
        DeviceError: If there is another number of processes than of devices, or they cannot be started from here.
    """
    if launch is None:
        devices = find_devices(kind, choice, -1)
        if len(devices) > 1:
            _refuse_more_machines(num_nodes, len(devices))
            start_ranks(len(devices))
        return devices
    number = launch.local_world_size
    # SLURM may let each task see a GPU of its own alone, and that is the first one to each.
    if launch.by == "SLURM" and kind == "cuda" and torch.cuda.device_count() == 1 and choice in ("auto", number):
        return find_devices(kind, 1, 1) * number
    devices = find_devices(kind, choice, number)
    if choice != "auto" and len(devices) != number:
        raise DeviceError(
            f"devices={choice!r} asks for {len(devices)} process(es) on this machine, and {launch.by}, or an earlier "
            f"Trainer of this program, has started {number}. Each trains on one device.\n"
            "    to do        leave out devices, or make the numbers equal, as with\n"
            f"                 torchrun --nproc-per-node={len(devices)} script.py"
        )
    return devices


def warn_of_tasks_not_started() -> None:
    """Warn if this process trains alone, where SLURM has been asked for several."""
    tasks = slurm.tasks_not_started()
    if tasks > 1:
        warn(
            f"SLURM has given this job {tasks} tasks, and the program was started without srun: it trains alone. Use "
            "srun python script.py for all of them, or devices=... for those of this machine."
        )


def _refuse_more_machines(num_nodes: int, number: int) -> None:
    if num_nodes != 1:
        raise ConfigError(
            f"num_nodes={num_nodes}, devices={number}: a program cannot start itself on other machines.\n"
            f"    start with   torchrun --nnodes={num_nodes} --nproc-per-node={number} ... script.py on each, or srun\n"
            "                 under SLURM (docs/how-to/many-machines.md)"
        )
