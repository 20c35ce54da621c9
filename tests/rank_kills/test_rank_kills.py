"""A few kills and signals under torchrun, after which a run ends as if nothing had been; the command tries more."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
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

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.timeout(400)]


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


def _listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def test_a_machine_that_is_lost_leaves_the_rest_to_the_other(tmp_path: Path, whole: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Each agent of torchrun stands for a machine. The first one holds the store in which they meet.
    meeting = ["--nnodes=1:2", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--local-addr=127.0.0.1"]
    meeting += ["--rdzv-conf=last_call_timeout=20,join_timeout=100,keep_alive_interval=1,keep_alive_max_attempt=3"]
    first = start(tmp_path, 1, 0, 3, *meeting)
    while not _listens(port):
        time.sleep(0.1)
    second = start(tmp_path, 1, 0, 3, *meeting)
    try:
        assert wait_for(tmp_path, 2, "validation", first), output_of(tmp_path)
        os.killpg(second.pid, signal.SIGKILL)
        for pid, parent in zip(pids_of(tmp_path, 2), pids_of(tmp_path, 2, "parent"), strict=True):
            if parent == second.pid:  # torchrun gives each rank a session of its own
                os.kill(pid, signal.SIGKILL)
        assert first.wait(200) == 0, output_of(tmp_path)
    finally:
        for agent in (first, second):
            agent.kill()
            agent.wait()
    assert "the global batch is kept: 8 samples, as on 2 rank(s) with 4 each; on 1 rank" in output_of(tmp_path)
    ends = [read_checkpoint(folder / "end.ckpt") for folder in (tmp_path, whole)]
    assert ends[0]["global_step"] == ends[1]["global_step"]


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
