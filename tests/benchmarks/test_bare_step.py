from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks import bare_step
from trainkit.testing import assert_same_weights


def test_both_loops_do_the_same_work():
    batches = bare_step.Batches((torch.randn(32, 64), torch.randint(10, (32,))), count=5)
    torch.manual_seed(0)
    ours = bare_step.Mlp()
    torch.manual_seed(0)
    hand = bare_step.Mlp()
    bare_step.with_trainkit(ours, batches)
    bare_step.by_hand(hand, batches)
    assert_same_weights(ours, hand)


def test_command_writes_its_figures(tmp_path):
    path = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.bare_step", "--steps", "30", "--turns", "2", "--json", str(path)]
    root = Path(__file__).parents[2]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout
    assert "us/step" in output
    figures = json.loads(path.read_text())["bare_step"]
    assert set(figures) == {"hand_us", "trainkit_us", "overhead_us", "ratio"}
    assert figures["hand_us"] > 0
