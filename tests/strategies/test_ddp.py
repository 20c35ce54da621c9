"""DDP in one process, and on two real ones, which torchrun starts once; each test looks at what they found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import tests.strategies.ddp_ranks as script
from tests.strategies.regression import Regression, gradients, make_batch
from trainkit.errors import DeviceError, ModuleError
from trainkit.strategies import DDP

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the script on two ranks; rank 1 dies at its end, so both are started a second time."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    finished = subprocess.run(
        [*torchrun, script.__file__, str(folder)], env=environment, capture_output=True, text=True, timeout=110
    )
    assert finished.returncode == 0, finished.stderr[-5000:]
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"rank_{rank}.pt") for rank in range(2)]


def train_in_one_process(accumulate: int) -> dict[str, torch.Tensor]:
    module = Regression(seed=0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for batch_idx in range(6):
        (module.training_step(make_batch(2 * script.SAMPLES, batch_idx)) / accumulate).backward()
        if (batch_idx + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return module.state_dict()


# Not slow, though it takes ten seconds: the quick part has two real processes once.
pytestmark = pytest.mark.distributed


@pytest.mark.parametrize(
    ("run", "accumulate"),
    [
        ("weights", 1),
        ("accumulated", 3),
        ("second fit", 1),
        ("static_graph", 3),
        ("find_unused_parameters", 3),
        ("gradient_as_bucket_view", 3),
    ],
)
def test_two_processes_give_the_weights_of_one(ranks: list[dict[str, Any]], run: str, accumulate: int):
    expected = train_in_one_process(accumulate)
    for rank in ranks:
        assert_close(dict(rank[run]), dict(expected), rtol=0, atol=1e-6)


def test_each_process_knows_its_rank(ranks: list[dict[str, Any]]):
    assert [rank["rank"] for rank in ranks] == [(0, 0, 2, 1), (1, 1, 2, 1)]


def test_ranks_reduce_and_gather_and_their_own_values_stay(ranks: list[dict[str, Any]]):
    expected = {"sum": [1.0, 2.0], "mean": [0.5, 1.0], "min": [0.0, 1.0], "max": [1.0, 1.0]}
    for index, rank in enumerate(ranks):
        assert {op: rank["agreement"][op].tolist() for op in expected} == expected
        assert rank["agreement"]["own"].tolist() == [index, 1.0]
        assert rank["agreement"]["gathered"].tolist() == [[0.0, 1.0], [1.0, 1.0]]


def test_ranks_exchange_objects_and_flags(ranks: list[dict[str, Any]]):
    for rank in ranks:
        assert rank["agreement"]["objects"] == [{"rank": 0}, {"rank": 1}]
        assert rank["agreement"]["broadcast"] == "from 1"
        assert rank["agreement"]["any"] == [True, False]


def test_gradients_of_one_rank_alone_are_averaged_too(ranks: list[dict[str, Any]]):
    module = Regression()
    x = make_batch(2 * script.SAMPLES, seed=0)[0]
    hidden = module.inner(x)
    loss = module.outer(hidden[: script.SAMPLES]).square().mean() + hidden[script.SAMPLES :].square().mean()
    (loss / 2).backward()
    for rank in ranks:
        assert_close(rank["synced by hand"], gradients(module))


def test_a_batch_is_skipped_by_all_ranks_or_every_rank_says_who_skipped(ranks: list[dict[str, Any]]):
    for rank in ranks:
        nobody, all_of_them, error = rank["skips"]
        assert (nobody, all_of_them) == (False, True)
        assert "rank 0        is in Strategy.barrier" in error
        assert re.search(r"rank 1        is in Strategy.skips_step .*: its training_step returned None", error)


def test_ranks_with_different_modules_say_what_differs(ranks: list[dict[str, Any]]):
    for rank in ranks:
        assert "'outer.weight' is" in rank["other module"]
        assert "(3, 4)" in rank["other module"] and "(2, 4)" in rank["other module"]


def test_a_process_group_of_the_user_survives(ranks: list[dict[str, Any]]):
    assert [rank["group of the user survives"] for rank in ranks] == [True, True]


def test_ranks_that_torchrun_restarted_find_each_other(folder: Path):
    assert [torch.load(folder / f"restarted_{rank}.pt") for rank in range(2)] == [[1, 1], [1, 1]]


def test_several_devices_need_torchrun():
    with pytest.raises(DeviceError, match=r"(?s)one process for each device.*torchrun --nproc-per-node=2 script.py"):
        DDP().assign([CPU, CPU])


def test_manual_optimization_gets_the_bare_step():
    strategy, module = DDP(), Regression()
    module.automatic_optimization = False
    batch = make_batch(2)
    assert strategy.training_step(module)(batch) == module.training_step(batch)


def test_a_module_with_nothing_to_train_can_still_be_run():
    strategy, module = DDP(), Regression().requires_grad_(False)
    batch = make_batch(2)
    assert strategy.training_step(module)(batch) == module.training_step(batch)


class Unused(Regression):
    """Leaves out its second layer."""

    def training_step(self, batch: Any, batch_idx: int = 0) -> Any:
        return self.inner(batch[0]).square().mean()


def test_parameters_that_take_no_part_are_named(ddp_alone: DDP):
    step = ddp_alone.training_step(Unused())
    step(make_batch(2)).backward()
    with pytest.raises(ModuleError, match=r"(?s)rank 0 .*: outer\.weight, outer\.bias\..*_find_unused_parameters_true"):
        step(make_batch(2))


def test_other_errors_of_a_step_are_left_as_they_are(ddp_alone: DDP):
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        ddp_alone.training_step(Regression())((torch.ones(2, 3), torch.ones(2, 2)))


@pytest.fixture
def ddp_alone() -> Iterator[DDP]:
    strategy = DDP()
    strategy.assign([CPU])
    strategy.setup()
    yield strategy
    strategy.teardown()
