from __future__ import annotations

import os
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies.slurm_step import step_variables
from trainkit.errors import DeviceError
from trainkit.output import begin_telling
from trainkit.plugins.devices import Choice
from trainkit.plugins.rank_devices import asks_for_several, find_devices_of_ranks
from trainkit.plugins.resolve import resolve_strategy
from trainkit.strategies.launch.environment import Launch


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_", "PMI_", "RANK", "WORLD_SIZE"))]:
        monkeypatch.delenv(name)
    begin_telling()  # as rank 0, whatever a test before has been


def set_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@given(st.integers(1, 8), st.one_of(st.just("auto"), st.integers(1, 8)), st.sampled_from(["torchrun", "SLURM"]))
def test_devices_are_those_of_the_processes_or_an_error_names_both(processes: int, choice: Choice, by: str):
    launch = Launch(world_size=processes, local_world_size=processes, by=by)
    if choice in ("auto", processes):
        assert find_devices_of_ranks("cpu", choice, launch, 1) == [torch.device("cpu")] * processes
        return
    with pytest.raises(DeviceError) as error:
        find_devices_of_ranks("cpu", choice, launch, 1)
    assert f"devices={choice} asks for {choice} process(es)" in str(error.value)
    assert f"{by}, or an earlier Trainer of this program, has started {processes}." in str(error.value)


@pytest.mark.parametrize(
    ("kind", "choice", "gpus", "several"),
    [
        ("cpu", "auto", 0, False),
        ("cpu", 1, 0, False),
        ("cpu", 3, 0, True),
        ("cuda", "auto", 4, False),
        ("cuda", -1, 4, True),
        ("cuda", -1, 1, False),
        ("cuda", [1], 4, False),
        ("cuda", [1, 3], 4, True),
    ],
)
def test_what_asks_for_several(monkeypatch: pytest.MonkeyPatch, kind: str, choice: Choice, gpus: int, several: bool):
    set_gpus(monkeypatch, gpus)
    assert asks_for_several(kind, choice) is several


@pytest.mark.parametrize("choice", ["auto", 4])
def test_tasks_of_slurm_may_see_a_gpu_of_their_own_alone(monkeypatch: pytest.MonkeyPatch, choice: Choice):
    set_gpus(monkeypatch, 1)
    launch = Launch(rank=3, local_rank=3, world_size=4, local_world_size=4, by="SLURM")
    assert find_devices_of_ranks("cuda", choice, launch, 1) == [torch.device("cuda:0")] * 4


@pytest.mark.parametrize("step", [{}, {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}])
def test_a_job_whose_tasks_were_not_started_is_told_so(step: dict[str, str], recwarn: pytest.WarningsRecorder):
    job = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
    with patch.dict(os.environ, job | step):
        strategy = resolve_strategy(accelerator="cpu")
    assert strategy.world_size == 1
    told = [str(each.message) for each in recwarn]
    assert bool(told) is not bool(step)
    assert all("SLURM has given this job 4 tasks, and the program was started without srun" in each for each in told)


def test_tasks_of_slurm_are_ranks():
    with patch.dict(os.environ, step_variables([2, 2], 3)):
        strategy = resolve_strategy(accelerator="cpu", num_nodes=2, devices=2)
    begin_telling()  # rank 3 is silent
    assert (strategy.name, strategy.rank, strategy.local_rank) == ("ddp", 3, 1)
    assert (strategy.world_size, strategy.num_nodes) == (4, 2)
