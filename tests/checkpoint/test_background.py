from __future__ import annotations

import copy
import subprocess
import sys
import textwrap
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainkit.checkpoint.background import BackgroundJob, snapshot
from trainkit.storage.files import read_checkpoint
from trainkit.testing import assert_same_state


def checkpoint() -> dict[str, Any]:
    module = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "state_dict": module.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "callbacks": {"counts": {"seen": [1, 2]}},
        "gradients": [parameter.grad for parameter in module.parameters()],
    }


def change(value: Any) -> None:
    """Change every tensor and list in place."""
    if isinstance(value, torch.Tensor):
        value.zero_()
    elif isinstance(value, dict):
        for item in value.values():
            change(item)
    elif isinstance(value, list):
        for item in value:
            change(item)
        value.append(None)


def test_a_snapshot_does_not_follow_what_training_changes() -> None:
    original = checkpoint()
    as_it_was = copy.deepcopy(original)
    taken = snapshot(original)
    change(original)
    assert_same_state(taken, as_it_was)


def test_a_snapshot_is_of_the_same_types() -> None:
    taken = snapshot(checkpoint())
    assert type(taken["state_dict"]) is OrderedDict
    assert taken["state_dict"]._metadata[""]["version"] == 1


def test_what_shares_memory_shares_it_in_the_snapshot() -> None:
    weight = torch.arange(6.0)
    taken = snapshot({"embedding": weight, "head": weight, "row": weight[2:4]})
    taken["embedding"][2] = 9.0
    assert (taken["head"][2], taken["row"][0]) == (9.0, 9.0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_snapshot_of_a_device_is_in_host_memory_and_shares_what_it_did() -> None:
    weight = torch.arange(6.0, device="cuda")
    before = torch.cuda.memory_allocated()
    taken = snapshot({"embedding": weight, "head": weight, "rows": [weight.view(2, 3).T], "epoch": 3})
    assert torch.cuda.memory_allocated() == before
    assert {tensor.device.type for tensor in (taken["embedding"], taken["head"], *taken["rows"])} == {"cpu"}
    weight.zero_()
    assert_same_state(taken["rows"], [torch.arange(6.0).view(2, 3).T])
    taken["embedding"][2] = 9.0
    assert (taken["head"][2], taken["rows"][0][2, 0]) == (9.0, 9.0)


# Jobs


def test_a_job_runs_beside_and_is_waited_for() -> None:
    job, may_end, done = BackgroundJob(), threading.Event(), []
    job.start(lambda: (may_end.wait(), done.append(1)))
    assert done == []
    may_end.set()
    job.finish()
    assert done == [1]
    job.finish()


def test_only_one_job_runs_at_a_time() -> None:
    job, order = BackgroundJob(), []
    for number in range(20):
        job.start(lambda number=number: (order.append(number), order.append(number)))
    job.finish()
    assert order == [number for number in range(20) for _ in range(2)]


@pytest.mark.parametrize("ask", ["start", "finish"])
def test_what_goes_wrong_is_raised_when_somebody_asks_and_once(ask: str) -> None:
    job = BackgroundJob()
    job.start(lambda: [][0])
    with pytest.raises(IndexError):
        job.start(lambda: None) if ask == "start" else job.finish()
    job.finish()


def test_the_interpreter_does_not_exit_before_the_job_is_done(tmp_path: Path) -> None:
    script = """
        import sys, torch
        from trainkit.checkpoint.background import BackgroundJob
        from trainkit.storage.files import write_checkpoint

        large = {"weight": torch.zeros(10_000_000)}
        BackgroundJob().start(lambda: write_checkpoint(large, sys.argv[1]))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "a.ckpt")], check=True)
    assert read_checkpoint(tmp_path / "a.ckpt")["weight"].shape == (10_000_000,)
