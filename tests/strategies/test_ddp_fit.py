"""Whole fits of a Trainer on two processes against the same in one."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import tests.strategies.ddp_fit as script

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("fits")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    finished = subprocess.run(
        [*torchrun, script.__file__, str(folder)], env=environment, capture_output=True, text=True, timeout=110
    )
    assert finished.returncode == 0, finished.stderr[-5000:]
    return [torch.load(folder / f"fit_{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def one_process() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="out of memory")
        return script.fit_everything()


@pytest.mark.parametrize(
    "run",
    [
        "plain",
        "accumulated",
        "weighted",
        "manual",
        "clipped by hand",
        "raw",
        "raw step",
        "thawing",
        "thawing and accumulated",
        "split",
        "tensors",
    ],
)
def test_two_processes_end_where_one_does(two_ranks: list[dict[str, Any]], one_process: dict[str, Any], run: str):
    for rank in two_ranks:
        assert rank[run]["global_step"] == one_process[run]["global_step"]
        assert_close(dict(rank[run]["weights"]), dict(one_process[run]["weights"]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("run", ["plain", "accumulated", "weighted", "split", "tensors"])
def test_every_rank_reports_the_metrics_of_one_process(
    two_ranks: list[dict[str, Any]], one_process: dict[str, Any], run: str
):
    for rank in two_ranks:
        assert rank[run]["logged"] == pytest.approx(one_process[run]["logged"], abs=1e-6)
        assert rank[run]["validated"] == [pytest.approx(each, abs=1e-6) for each in one_process[run]["validated"]]


def test_ranks_that_update_past_the_exchange_end_before_they_have_drifted_far(two_ranks: list[dict[str, Any]]):
    for rank in two_ranks:
        assert "after training batch 1 they have different weights in 'inner.weight'" in rank["drifting"]


def test_metrics_of_the_fit_are_there_to_be_compared(one_process: dict[str, Any]):
    assert set(one_process["plain"]["logged"]) == {"train/loss", "val/loss"}
