"""One rank on one GPU, over nccl: what it comes to is what a process without ranks comes to. See scripts/on_gpu.sh."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from tests.strategies import launched_fit
from trainkit.plugins import catalog

ROOT = Path(__file__).parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
KINDS = [
    pytest.param(
        "cuda",
        marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
    ),
    "cpu",
]
"""The CPU too, over gloo, so that the test itself is tested where there is no GPU."""


def weights(folder: Path, command: list[str], **arguments: object) -> dict[str, torch.Tensor]:
    given = [f"{name}={value!r}" for name, value in arguments.items()]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *command, launched_fit.__file__, str(folder), *given]
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return torch.load(folder / "weights.pt")


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("precision", "compile"), [*product(["32-true", "bf16-mixed"], [False, True])])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_rank_is_one_process(tmp_path: Path, kind: str, strategy: str, precision: str, compile: bool):
    if not catalog.has("strategies", strategy):
        pytest.skip(f"there is no strategy {strategy!r}")
    if kind == "cpu" and (compile or precision != "32-true"):
        pytest.skip("of the CPU one case is enough")
    same = {"accelerator": kind, "precision": precision, "compile": compile}
    alone = weights(tmp_path / "alone", [], **same)
    ranked = weights(tmp_path / "ranked", TORCHRUN, strategy=strategy, **same)
    # fsdp computes in bfloat16 where autocast does so operation by operation.
    tolerance = 0.02 if precision == "bf16-mixed" else 1e-5
    assert_close(ranked, alone, rtol=tolerance, atol=tolerance)
