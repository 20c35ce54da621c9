"""How this process was started: the one place that reads the environment torchrun sets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

from torch import distributed as dist
from torch.distributed import HashStore, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # torch's stubs lack them

from trainkit.errors import DeviceError


@dataclass(frozen=True, slots=True)
class Launch:
    """The place of this process among those that were started together. By default it was started alone.

    Attributes:
        rank: The number of this process among all, from 0.
        local_rank: The number of this process among those of its machine, from 0.
        world_size: How many processes there are.
        local_world_size: How many of them are on this machine.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1

    @property
    def num_nodes(self) -> int:
        """How many machines there are, if all run as many processes as this one."""
        return self.world_size // self.local_world_size


def read_launch() -> Launch | None:
    """Return the place of this process, from an existing process group or from torchrun; None if it was started alone.

    Raises:
        DeviceError: If the environment contradicts itself.
    """
    # A group that exists already is used, whatever the environment says.
    if dist.is_initialized():
        rank, world_size = dist.get_rank(), dist.get_world_size()
    elif "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        rank, world_size = _number("RANK"), _number("WORLD_SIZE")
    else:
        return None  # also where only one of them is set, as some clusters do in every shell
    # Without LOCAL_RANK and LOCAL_WORLD_SIZE all processes are taken to be on this machine.
    launch = Launch(
        rank=rank,
        local_rank=_number("LOCAL_RANK", rank),
        world_size=world_size,
        local_world_size=_number("LOCAL_WORLD_SIZE", world_size),
    )
    if not (0 <= launch.rank < launch.world_size and 0 <= launch.local_rank < launch.local_world_size):
        raise DeviceError(
            f"the environment contradicts itself: RANK={launch.rank} of WORLD_SIZE={launch.world_size}, "
            f"LOCAL_RANK={launch.local_rank} of LOCAL_WORLD_SIZE={launch.local_world_size}.\n"
            "    to do        start with torchrun, which sets all four"
        )
    return launch


def open_store(launch: Launch, timeout: timedelta) -> Store:
    """Return the store through which the ranks find each other, without the keys of earlier process groups.

    torchrun keeps one store for all restarts of a job, and a process may start a group twice, for two fits. The
    addresses of the previous group would be taken for those of the new one (pytorch#135712), so each start prefixes its
    keys.

    Raises:
        DeviceError: If there are several processes and no address at which they meet.
    """
    if launch.world_size == 1:
        return HashStore()
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise DeviceError(
            f"WORLD_SIZE={launch.world_size}, but {' and '.join(missing)} not set: the processes cannot meet.\n"
            f"    start with   torchrun --nproc-per-node={launch.local_world_size} script.py"
        )
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        _number("MASTER_PORT"),
        launch.world_size,
        # torchrun's agent may serve the store itself, and then no rank can.
        is_master=launch.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        timeout=timeout,
        multi_tenant=True,  # a second store of this process, for another fit, may use the same port
    )
    run, restart = os.environ.get("TORCHELASTIC_RUN_ID", ""), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    # How often this rank has started a group. All ranks have started equally many, so they get the same number, without
    # an exchange.
    start = store.add(f"trainkit/{run}/{restart}/starts_of_rank_{launch.rank}", 1)
    return PrefixStore(f"trainkit/{run}/{restart}/{start}", store)


def _number(name: str, default: int | None = None) -> int:
    """Return the environment variable ``name`` as a number."""
    text = os.environ.get(name, default)
    try:
        return int(text)  # type: ignore[arg-type]  # None is answered below
    except (TypeError, ValueError):
        raise DeviceError(f"the environment variable {name} is {text!r}, and must be a whole number.") from None
