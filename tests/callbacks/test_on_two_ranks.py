"""What ranks decide together, on two real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tests.callbacks.averaging_ranks as averaging
import tests.callbacks.on_two_ranks as script
from tests.strategies.started import Ranks

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    command = [*torchrun, script.__file__, str(folder)]
    here = tmp_path_factory.mktemp("cwd")
    finished = subprocess.run(command, env=environment, cwd=here, capture_output=True, text=True, timeout=110)
    assert finished.returncode == 0, finished.stderr[-5000:]
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in range(2)]


def test_rank_zero_decides_what_is_saved_and_every_rank_knows_it(folder: Path, ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["saved"] == ranks[1]["saved"]
    assert ranks[0]["saved"]["best_model_score"] == 1.0
    assert Path(ranks[0]["saved"]["best_model_path"]).name == "epoch=1-step=4.ckpt"
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["epoch=1-step=4.ckpt", "last.ckpt"]
    assert os.readlink(folder / "checkpoints" / "last.ckpt") == "epoch=1-step=4.ckpt"


def test_a_folder_that_rank_zero_cannot_write_is_an_error_on_every_rank(ranks: list[dict[str, Any]]) -> None:
    assert [rank["refused"] for rank in ranks] == ["CheckpointWriteError"] * 2


def test_a_row_holds_what_all_ranks_logged_at_the_end_of_the_epoch(ranks: list[dict[str, Any]]) -> None:
    assert [rank["rows"] for rank in ranks] == [[0.5], [0.5]]


def test_every_rank_stops_when_one_does(ranks: list[dict[str, Any]]) -> None:
    assert [rank["stopped"] for rank in ranks] == [[2, "not stopped"], [2, "patience exhausted"]]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_all_ranks_are_left_with_the_average_that_is_saved(strategy: str) -> None:
    ended = Ranks(averaging.__file__, strategy).ended()
    assert [each.code for each in ended] == [0, 0], ended[0].text[-3000:]
    first, second = ([line for line in each.text.splitlines() if line.startswith("left")] for each in ended)
    assert len(first) == 2
    assert first == second
