from __future__ import annotations

import os
import socket
from datetime import timedelta

import pytest

from trainkit.errors import DeviceError
from trainkit.strategies.launch.environment import Launch, open_store, read_launch

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "SLURM_", "OMPI_", "PMI_", "MPI_", "KUBERNETES_", "TORCHELASTIC_")
"""How the names of the variables begin that are read here."""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(NAMES)]:
        monkeypatch.delenv(name)


def set_variables(monkeypatch: pytest.MonkeyPatch, **variables: object) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


def test_a_process_started_alone_has_no_launch():
    assert read_launch() is None


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE"])
def test_one_variable_alone_is_not_torchrun(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(name, "4")
    assert read_launch() is None


def test_what_torchrun_sets_is_read(monkeypatch: pytest.MonkeyPatch):
    set_variables(monkeypatch, RANK=5, WORLD_SIZE=8, LOCAL_RANK=1, LOCAL_WORLD_SIZE=4)
    launch = read_launch()
    assert launch == Launch(rank=5, local_rank=1, world_size=8, local_world_size=4)
    assert launch is not None and launch.num_nodes == 2


def test_without_local_variables_there_is_one_machine(monkeypatch: pytest.MonkeyPatch):
    set_variables(monkeypatch, RANK=1, WORLD_SIZE=2)
    assert read_launch() == Launch(rank=1, local_rank=1, world_size=2, local_world_size=2)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "first", "WORLD_SIZE": 2}, "RANK is 'first'"),
        ({"RANK": 2, "WORLD_SIZE": 2}, "RANK=2 of WORLD_SIZE=2"),
        ({"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 1}, "LOCAL_RANK=1 of LOCAL_WORLD_SIZE=1"),
    ],
)
def test_a_contradictory_environment_is_an_error(monkeypatch: pytest.MonkeyPatch, variables: dict, message: str):
    set_variables(monkeypatch, **variables)
    with pytest.raises(DeviceError, match=message):
        read_launch()


def test_processes_without_a_meeting_point_are_told_to_use_torchrun(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    with pytest.raises(DeviceError, match=r"(?s)MASTER_PORT not set.*torchrun --nproc-per-node=2"):
        open_store(Launch(world_size=2, local_world_size=2), timedelta(seconds=1))


def test_one_process_needs_no_meeting_point():
    store = open_store(Launch(), timedelta(seconds=1))
    store.set("key", "value")
    assert store.get("key") == b"value"


# mpirun, and pods of Kubernetes


OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": 5,
    "OMPI_COMM_WORLD_SIZE": 8,
    "OMPI_COMM_WORLD_LOCAL_RANK": 1,
    "OMPI_COMM_WORLD_LOCAL_SIZE": 4,
}
MPICH = {"PMI_RANK": 5, "PMI_SIZE": 8, "MPI_LOCALRANKID": 1, "MPI_LOCALNRANKS": 4}


@pytest.mark.parametrize(("variables", "by"), [(OPEN_MPI, "Open MPI"), (MPICH, "MPICH")])
def test_what_mpirun_sets_is_read_unless_something_is_missing(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, int], by: str
):
    set_variables(monkeypatch, **variables)
    assert read_launch() == Launch(5, 1, 8, 4, by)
    set_variables(monkeypatch, RANK=0, WORLD_SIZE=2, LOCAL_RANK=0, LOCAL_WORLD_SIZE=2)
    assert read_launch() == Launch(0, 0, 2, 2)  # torchrun's own win
    monkeypatch.delenv("RANK")
    for name in variables:
        with monkeypatch.context() as without:
            without.delenv(name)
            assert read_launch() is None


@pytest.mark.parametrize("variables", [OPEN_MPI, MPICH])
def test_one_process_of_mpirun_is_alone(monkeypatch: pytest.MonkeyPatch, variables: dict[str, int]):
    set_variables(monkeypatch, **{name: int("SIZE" in name or "NRANKS" in name) for name in variables})
    assert read_launch() is None


def test_a_pod_of_kubernetes_has_one_process_unless_it_says_more(monkeypatch: pytest.MonkeyPatch):
    set_variables(monkeypatch, KUBERNETES_SERVICE_HOST="10.0.0.1", RANK=3, WORLD_SIZE=4)
    launch = read_launch()
    assert launch == Launch(rank=3, local_rank=0, world_size=4, local_world_size=1)
    assert launch is not None and launch.num_nodes == 4
    set_variables(monkeypatch, LOCAL_RANK=1, LOCAL_WORLD_SIZE=2)
    assert read_launch() == Launch(rank=3, local_rank=1, world_size=4, local_world_size=2)


def test_a_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        set_variables(monkeypatch, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        with pytest.raises(
            DeviceError, match=rf"cannot wait for the other ranks at 127.0.0.1:{port}(?s:.*)MASTER_PORT"
        ):
            open_store(Launch(world_size=2, local_world_size=2), timedelta(seconds=1))
