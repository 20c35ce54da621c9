"""Two workers of a real Ray cluster on this machine, which the recipe of docs/how-to/clusters.md trains on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.strategies import launched_fit

ROOT = Path(__file__).parents[1]

pytest.importorskip("ray.train.torch", reason="pip install 'trainkit[ray]'")


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_is_killed_is_replaced_and_the_run_ends_as_one_of_torchrun(tmp_path: Path):
    whole, folder = tmp_path / "whole", tmp_path / "ray"
    folder.mkdir()
    # Ray lets workers find their modules, and what they need, as its own process does.
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", launched_fit.__file__, whole]
    for command in (torchrun, ["-m", "tests.ray_fit", folder]):
        done = subprocess.run([sys.executable, *map(str, command)], env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    assert (folder / "killed").exists()
    assert (folder / "began.txt").read_text() == "False\nTrue\n"
    torch.testing.assert_close(torch.load(folder / "weights.pt"), torch.load(whole / "weights.pt"), rtol=0, atol=0)
    assert "the Trainer was made in a worker of Ray" in (folder / "task.txt").read_text()
