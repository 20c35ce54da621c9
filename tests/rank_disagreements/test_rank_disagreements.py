"""A few disagreements drawn by chance end as they should; the command tries more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rank_disagreements.draws import ACTIONS, Draw

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


def test_ranks_that_do_not_do_the_same_are_told_or_go_on_alike(tmp_path: Path):
    # The first of each kind. In a process of its own, since it is copied for each rank.
    seeds = {Draw.draw(seed).action: seed for seed in reversed(range(200))}
    assert seeds.keys() == set(ACTIONS)
    command = [sys.executable, "-m", "tests.rank_disagreements", "--folder", str(tmp_path), "--only"]
    done = subprocess.run([*command, *map(str, seeds.values())], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert f"{len(seeds)} draws" in done.stdout


def test_a_draw_is_the_same_for_a_seed_and_covers_every_call():
    draws = [Draw.draw(seed) for seed in range(300)]
    assert draws == [Draw.draw(seed) for seed in range(300)]
    assert {draw.call for draw in draws} == {"fit", "validate", "test", "predict"}
    assert {draw.world_size for draw in draws} == {2, 3}
    assert all(draw.odd < draw.world_size for draw in draws)
