"""What two ranks log, and which samples they see."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tests.semantics import two_ranks as script

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    subprocess.run([*torchrun, script.__file__, folder], env=environment, check=True, timeout=120)
    return [torch.load(folder / f"rank_{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("epoch", [0.5, 0.5]), ("hook", [0.5, 0.5]), ("epoch here", [0, 1]), ("step here", [0, 1]), ("step", [0.5, 0.5])],
)
def test_epoch_values_are_reduced_unless_told_otherwise_and_step_values_if_asked_to(ranks, name, expected):
    assert [rank["logged"][name] for rank in ranks] == expected


def test_a_sequential_loader_stays_sequential_and_is_shared(ranks):
    assert [rank["seen"]["train"] for rank in ranks] == [[0, 2, 4, 6], [1, 3, 5, 7]]


@pytest.mark.parametrize("stage", ["validate", "predict"])
def test_evaluation_and_prediction_see_every_sample_exactly_once_in_order(ranks, stage):
    seen = [rank["seen"][stage] for rank in ranks]
    assert sorted(seen[0] + seen[1]) == list(range(script.SAMPLES))
    assert all(part == sorted(part) for part in seen)
    assert [rank["logged"]["samples"] for rank in ranks] == [script.SAMPLES] * 2
