from __future__ import annotations

from datetime import timedelta

import pytest

from trainkit.errors import DeviceError
from trainkit.strategies.launch import Launch, open_store, read_launch

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


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
