"""One process per device: which place this one has among those that torchrun started, and the group that they form."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import torch
from torch import distributed as dist

from trainkit.errors import DeviceError
from trainkit.output import speak_as
from trainkit.strategies.base import Strategy
from trainkit.strategies.launch.environment import Launch, open_store, read_launch, tell_end_of_program
from trainkit.strategies.ranks.rank_group import start_default_group


def take_place(strategy: Strategy, devices: Sequence[torch.device]) -> None:
    """Give ``strategy`` the device and the ranks of this process.

    Args:
        strategy: Runs with one process per device.
        devices: Those of this machine.

    Raises:
        DeviceError: If torchrun started another number of processes on this machine.
    """
    launch = read_launch() or Launch()
    if len(devices) != launch.local_world_size:
        raise DeviceError(
            f"strategy {strategy.name!r} needs one process for each device of a machine. Here are {len(devices)} "
            f"device(s) ({', '.join(map(str, devices))}) and {launch.local_world_size} process(es).\n"
            f"    start with   torchrun --nproc-per-node={len(devices)} script.py"
        )
    strategy.devices = tuple(devices)
    strategy.device = devices[launch.local_rank]
    strategy.rank, strategy.local_rank = launch.rank, launch.local_rank
    strategy.world_size, strategy.num_nodes = launch.world_size, launch.num_nodes
    speak_as(strategy.rank, strategy.world_size)
    if launch.world_size > 1 and not dist.is_initialized():
        tell_end_of_program(launch)


def join_group(strategy: Strategy, backend: str | None) -> None:
    """Join the process group of all ranks, unless there is one.

    Args:
        strategy: Has its place.
        backend: As for ``torch.distributed.init_process_group``; None is nccl for tensors on a GPU and gloo for those
            on the CPU.
    """
    if dist.is_initialized():
        return
    timeout = timedelta(seconds=strategy.timeout_s)
    on_cuda = strategy.device.type == "cuda"
    start_default_group(
        # gloo beside nccl, so that flags can be exchanged on the CPU, without waiting for the GPU.
        backend=backend or ("cpu:gloo,cuda:nccl" if on_cuda else "gloo"),
        store=open_store(read_launch() or Launch(), timeout),
        rank=strategy.rank,
        world_size=strategy.world_size,
        timeout=timeout,
        # Without it torch guesses the device from the rank at the first barrier, with a warning.
        device_id=strategy.device if on_cuda else None,
    )
