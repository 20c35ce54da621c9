"""How this process was started: the one place that reads what torchrun, SLURM and mpirun tell a process."""

from __future__ import annotations

import atexit
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from torch import distributed as dist
from torch.distributed import HashStore, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # torch's stubs lack them

from trainkit.errors import DeviceError, RankError
from trainkit.strategies.launch import slurm
from trainkit.strategies.launch.roll_call import call_roll, tell_end
from trainkit.strategies.launch.variables import number_of

_MPI = {
    "Open MPI": (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    "MPICH": ("PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE", "MPI_LOCALNRANKS"),
}
"""What ``mpirun`` sets, in the order of the fields of `Launch`. MPICH's are also those of Intel MPI and MVAPICH."""

_OTHERS_COME_S = 3.0
"""How much later than this rank others may come to where they meet, so that they hear that it has ended."""


@dataclass(frozen=True, slots=True)
class Launch:
    """The place of this process among those that were started together. By default it was started alone.

    Attributes:
        rank: The number of this process among all, from 0.
        local_rank: The number of this process among those of its machine, from 0.
        world_size: How many processes there are.
        local_world_size: How many of them are on this machine.
        by: Who has started them, for messages: ``"torchrun"`` stands for all who set ``RANK`` and ``WORLD_SIZE``.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    by: str = "torchrun"

    @property
    def num_nodes(self) -> int:
        """How many machines there are, if all run as many processes as this one."""
        return self.world_size // self.local_world_size


def read_launch() -> Launch | None:
    """Return the place of this process among those started with it; None if it was started alone.

    An existing process group comes first, then ``RANK`` and ``WORLD_SIZE``, which torchrun sets, then what mpirun sets,
    then what SLURM sets. One process of mpirun or SLURM is one that was started alone.

    Raises:
        DeviceError: If the environment contradicts itself.
    """
    launch = _place()
    if launch is not None and not (
        0 <= launch.rank < launch.world_size and 0 <= launch.local_rank < launch.local_world_size <= launch.world_size
    ):
        raise DeviceError(
            f"the environment contradicts itself: RANK={launch.rank} of WORLD_SIZE={launch.world_size}, "
            f"LOCAL_RANK={launch.local_rank} of LOCAL_WORLD_SIZE={launch.local_world_size}, as {launch.by} has it.\n"
            "    to do        start with torchrun, which sets all four"
        )
    return launch


def _place() -> Launch | None:
    # A group that exists already is used, whatever the environment says.
    if dist.is_initialized():
        return _place_of_rank(dist.get_rank(), dist.get_world_size())
    # Both: some clusters set one of them in every shell.
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return _place_of_rank(number_of("RANK"), number_of("WORLD_SIZE"))
    for name, variables in _MPI.items():
        if all(variable in os.environ for variable in variables) and number_of(variables[2]) > 1:
            rank, local_rank, world_size, local_world_size = map(number_of, variables)
            return Launch(rank, local_rank, world_size, local_world_size, name)
    return Launch(**slurm.place_in_step(), by="SLURM") if slurm.in_step() else None


def _place_of_rank(rank: int, world_size: int) -> Launch:
    """Return the place of a process that knows its number, and may not know that on its machine."""
    # A pod of Kubernetes runs one process, unless somebody in it says more. Elsewhere all are taken to be on this
    # machine.
    alone = "KUBERNETES_SERVICE_HOST" in os.environ
    return Launch(
        rank=rank,
        local_rank=number_of("LOCAL_RANK", 0 if alone else rank),
        world_size=world_size,
        local_world_size=number_of("LOCAL_WORLD_SIZE", 1 if alone else world_size),
    )


def open_store(launch: Launch, timeout: timedelta) -> Store:
    """Return the store through which the ranks find each other, without the keys of earlier process groups.

    torchrun keeps one store for all restarts of a job, and a process may start a group twice, for two fits. The
    addresses of the previous group would be taken for those of the new one, so each start prefixes its keys.

    Raises:
        DeviceError: If there are several processes and no address at which they meet.
        RankError: If not all of them come.
    """
    if launch.world_size == 1:
        return HashStore()
    store = _open(launch, timeout)
    word = call_roll(store, launch.rank, launch.world_size, timeout)
    atexit.unregister(_tell_end)  # from here on the others know where this rank stands
    return PrefixStore(word, store)


def _open(launch: Launch, timeout: timedelta) -> Store:
    """Return the store of this job, which rank 0 holds unless torchrun's agent does."""
    address, port = find_meeting_point(launch)
    if launch.rank == 0 and not is_agents_store():
        try:
            return _connect(address, port, is_server=True, timeout=timeout)
        except dist.DistNetworkError as error:
            raise DeviceError(
                f"rank 0 cannot wait for the other ranks at {address}:{port}: {error}\n"
                "    to do        set MASTER_PORT, for all ranks, to a port that is free on the machine of rank 0"
            ) from error
    try:
        _wait_for_server(address, port, timeout.total_seconds())
    except OSError as error:
        raise RankError(
            f"rank {launch.rank} of {launch.world_size} has waited {timeout.total_seconds():g} s for rank 0 at "
            f"{address}:{port}, and nobody answers: {error}.\n"
            "    to do        start all ranks, with the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE"
        ) from error
    return _connect(address, port, is_server=False, timeout=timeout)


def tell_end_of_program(launch: Launch) -> None:
    """If the program ends before this rank has met the others, let those know who wait for it."""
    atexit.unregister(_tell_end)  # never twice
    atexit.register(_tell_end, launch)


def _tell_end(launch: Launch) -> None:
    with suppress(Exception):  # nobody waits where they would meet
        address, port = find_meeting_point(launch)
        holds_store = launch.rank == 0 and not is_agents_store()
        if not holds_store:
            _wait_for_server(address, port, _OTHERS_COME_S)
        store = _connect(address, port, is_server=holds_store, timeout=timedelta(seconds=5))
        tell_end(store, launch.rank)
        if holds_store:
            time.sleep(_OTHERS_COME_S)  # so that they read it: the store ends with this process


def _wait_for_server(address: str, port: int, timeout_s: float) -> None:
    """Wait until something answers. torch does so too, but in steps of several seconds, and complains on stderr."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
            return
        except OSError:  # also of a name that is not known yet
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)


def is_agents_store() -> bool:
    """Whether the store is held by the agent of torchrun, and not by rank 0."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _connect(address: str, port: int, *, is_server: bool, timeout: timedelta) -> Store:
    """Return the store of this job, as all its starts have it."""
    # A second store of this process, for another fit, may use the same port.
    store = TCPStore(address, port, is_master=is_server, timeout=timeout, wait_for_workers=False, multi_tenant=True)
    # One agent may serve several jobs of the same machine.
    return PrefixStore(f"trainkit/{os.environ.get('TORCHELASTIC_RUN_ID', '')}", store)


def find_meeting_point(launch: Launch) -> tuple[str, int]:
    """Return the address and the port of rank 0: those of ``MASTER_ADDR`` and ``MASTER_PORT``, or what SLURM tells.

    Raises:
        DeviceError: If nobody has told them.
    """
    is_slurm = launch.by == "SLURM"
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ and not is_slurm]
    if missing:
        raise DeviceError(
            f"{launch.world_size} processes were started together, and {' and '.join(missing)} not set: they cannot "
            f"meet.\n    start with   torchrun --nproc-per-node={launch.local_world_size} script.py\n"
            f"    or set       both, for all of them: the machine of rank 0, and a port that is free there"
        )
    address = os.environ["MASTER_ADDR"] if "MASTER_ADDR" in os.environ else slurm.first_host()
    return address, number_of("MASTER_PORT", slurm.port_of_step() if is_slurm else None)
