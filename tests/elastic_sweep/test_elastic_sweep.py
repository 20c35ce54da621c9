"""A few programs drawn by chance go on with other numbers of ranks as if nothing had been; the command tries more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.elastic_sweep.programs import DATA, Program

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
FIRST = 100


def test_programs_go_on_with_other_numbers_of_ranks():
    # The first of each kind of data. In a process of its own, as it forks.
    chosen = {Program.draw(seed).data: seed for seed in reversed(range(FIRST, FIRST + 60))}
    assert chosen.keys() == set(DATA)
    command = [sys.executable, "-m", "tests.elastic_sweep", "--seeds", *map(str, sorted(chosen.values()))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{len(DATA)} programs, 0 different" in ended.stdout
