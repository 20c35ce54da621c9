"""A few kills and signals under torchrun, after which a run ends as if nothing had been; the command tries more."""

from __future__ import annotations

import random
from pathlib import Path
from typing import get_args

import pytest

from tests.rank_kills.kills import (
    Kind,
    Signalled,
    difference,
    disturb,
    forget,
    output_of,
    pids_of,
    run_disturbed,
    run_whole,
    start,
    wait_for,
)
from trainkit.storage.files import read_checkpoint

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("whole")
    run_whole(folder, ranks=2, workers=0)
    return folder


@pytest.mark.parametrize(("kinds", "seed"), [(get_args(Kind), 3), (get_args(Signalled), 4)])
def test_a_run_that_is_disturbed_ends_as_the_one_that_is_not(tmp_path: Path, whole: Path, kinds: list[str], seed: int):
    outcome = run_disturbed(tmp_path, ranks=2, workers=0, kinds=kinds, most=2, chance=random.Random(seed))
    assert not outcome.wrong, "\n".join(outcome.wrong)
    assert outcome.total > 0
    assert difference(tmp_path, whole) == ""


def test_the_same_program_goes_on_with_another_number_of_ranks(tmp_path: Path, whole: Path):
    process = start(tmp_path, ranks=2, workers=0, max_restarts=0)
    assert wait_for(tmp_path, 2, "validation", process), output_of(tmp_path)
    disturb("SIGKILL to all and torchrun", process, pids_of(tmp_path, 2), random.Random(0))
    process.wait()
    forget(tmp_path)
    assert start(tmp_path, ranks=3, workers=0, max_restarts=0).wait(200) == 0, output_of(tmp_path)
    assert "the global batch is kept: 8 samples" in output_of(tmp_path)
    ends = [read_checkpoint(folder / "end.ckpt") for folder in (tmp_path, whole)]
    assert ends[0]["global_step"] == ends[1]["global_step"]
