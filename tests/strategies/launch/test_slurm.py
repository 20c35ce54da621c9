from __future__ import annotations

import os
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies.slurm_step import step_variables
from trainkit.errors import DeviceError
from trainkit.strategies.launch import slurm
from trainkit.strategies.launch.environment import Launch, find_meeting_point, read_launch

JOB = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
"""What a batch script sees of a job with --ntasks=4, ahead of any step; likewise a shell of salloc."""

counts = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "MASTER_", "RANK", "WORLD_SIZE"))]:
        monkeypatch.delenv(name)


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, Any]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


@given(counts, st.data())
def test_every_task_of_a_step_knows_its_place(tasks_per_node: list[int], data: st.DataObject):
    total = sum(tasks_per_node)
    task = data.draw(st.integers(0, total - 1))
    places = [(node, local) for node, count in enumerate(tasks_per_node) for local in range(count)]
    node, local = places[task]
    expected = Launch(task, local, total, tasks_per_node[node], "SLURM") if total > 1 else None
    with patch.dict(os.environ, step_variables(tasks_per_node, task)):
        assert read_launch() == expected


@given(counts, st.integers(1, 10**7), st.integers(0, 50))
def test_all_tasks_of_a_step_meet_at_one_place(tasks_per_node: list[int], job: int, step: int):
    found = set()
    for task in range(sum(tasks_per_node)):
        with patch.dict(os.environ, step_variables(tasks_per_node, task, job=job, step=step)):
            found.add(find_meeting_point(Launch(by="SLURM")))
    ((address, port),) = found
    assert address == ("localhost" if len(tasks_per_node) == 1 else "node0")
    assert 1024 < port < 32768  # where no system takes one for itself


def test_jobs_and_steps_beside_each_other_meet_at_other_ports():
    ports = set()
    for job, step in [(1, 0), (1, 1), (2, 0), (2, 1)]:
        with patch.dict(os.environ, step_variables([2], 0, job=job, step=step)):
            ports.add(slurm.port_of_step())
    assert len(ports) == 4


host = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
numbers = st.lists(st.integers(0, 999).map("{:03d}".format), min_size=1, max_size=4, unique=True)


@given(host, numbers, st.booleans(), st.lists(host, max_size=2))
def test_the_first_host_of_a_list_is_found(prefix: str, numbers: list[str], ranges: bool, others: list[str]):
    inside = "-".join(numbers[:2]) + "".join(f",{each}" for each in numbers[2:]) if ranges else ",".join(numbers)
    listed = ",".join([f"{prefix}[{inside}].cluster", *others])
    with patch.dict(os.environ, {"SLURM_JOB_NODELIST": listed}):
        assert slurm.first_host() == f"{prefix}{numbers[0]}.cluster"


@pytest.mark.parametrize(
    ("listed", "first"),
    [("gpu7", "gpu7"), ("gpu7,gpu9", "gpu7"), ("r[1-2]n[3-4,7]", "r1n3"), ("a-b-[09-11],c", "a-b-09"), ("n[5]", "n5")],
)
def test_forms_of_lists_of_hosts(monkeypatch: pytest.MonkeyPatch, listed: str, first: str):
    monkeypatch.setenv("SLURM_JOB_NODELIST", listed)
    assert slurm.first_host() == first


def test_master_addr_and_port_win_over_slurm(monkeypatch: pytest.MonkeyPatch):
    set_variables(monkeypatch, step_variables([1, 1], 0) | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"})
    assert find_meeting_point(Launch(by="SLURM")) == ("10.0.0.1", 1234)


def test_rank_and_world_size_win_over_slurm(monkeypatch: pytest.MonkeyPatch):
    torchrun = {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}
    set_variables(monkeypatch, step_variables([1, 1], 1) | torchrun)
    assert read_launch() == Launch(3, 1, 4, 2)


def test_mpirun_within_a_job_wins_over_slurm(monkeypatch: pytest.MonkeyPatch):
    # It starts one task of SLURM on each node, which starts the processes.
    names = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")
    mpi = {f"OMPI_COMM_WORLD_{name}": value for name, value in zip(names, (3, 4, 1, 2), strict=True)}
    set_variables(monkeypatch, step_variables([1, 1], 1) | mpi)
    assert read_launch() == Launch(3, 1, 4, 2, "Open MPI")


@pytest.mark.parametrize("more", [{}, {"SLURM_NNODES": "2"}, {"SLURM_TASKS_PER_NODE": "2(x2)"}])
def test_a_program_without_srun_is_alone_whatever_the_job_has(monkeypatch: pytest.MonkeyPatch, more: dict[str, str]):
    set_variables(monkeypatch, JOB | more)
    assert read_launch() is None
    assert slurm.tasks_not_started() == 4


@pytest.mark.parametrize("step", ["0", "4294967290"])  # the second is that of a shell of salloc
def test_a_step_of_one_task_is_alone_in_a_job_of_many(monkeypatch: pytest.MonkeyPatch, step: str):
    set_variables(monkeypatch, JOB | {"SLURM_STEP_ID": step, "SLURM_STEP_NUM_TASKS": "1"})
    assert read_launch() is None
    assert slurm.tasks_not_started() == 0


def test_outside_of_slurm_no_tasks_are_missing():
    assert slurm.tasks_not_started() == 0


def test_an_older_srun_tells_the_tasks_of_a_step_as_those_of_the_job(monkeypatch: pytest.MonkeyPatch):
    set_variables(monkeypatch, JOB | {"SLURM_STEP_ID": "0", "SLURM_PROCID": "2", "SLURM_TASKS_PER_NODE": "4"})
    monkeypatch.setenv("SLURM_LOCALID", "2")
    assert read_launch() == Launch(2, 2, 4, 4, "SLURM")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SLURM_PROCID": "one"}, "SLURM_PROCID is 'one'"),
        ({"SLURM_PROCID": "9"}, "RANK=9 of WORLD_SIZE=4.*as SLURM has it"),
        ({"SLURM_LOCALID": "2"}, "LOCAL_RANK=2 of LOCAL_WORLD_SIZE=2"),
        ({"SLURM_STEP_TASKS_PER_NODE": "2(2)"}, r"SLURM_STEP_TASKS_PER_NODE='2\(2\)' does not say .* node 1 has"),
        ({"SLURM_STEP_TASKS_PER_NODE": "4"}, "SLURM_STEP_TASKS_PER_NODE='4' does not say how many tasks node 1 has"),
    ],
)
def test_what_contradicts_itself_is_an_error(monkeypatch: pytest.MonkeyPatch, change: dict[str, str], message: str):
    set_variables(monkeypatch, step_variables([2, 2], 3) | change)
    with pytest.raises(DeviceError, match=message):
        read_launch()


def test_a_step_without_hosts_does_not_know_where_to_meet(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DeviceError, match="SLURM_JOB_NODELIST names no host"):
        find_meeting_point(Launch(by="SLURM"))
