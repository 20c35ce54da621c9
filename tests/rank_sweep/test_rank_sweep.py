"""A few programs drawn by chance come to the same on several ranks as in one process; the command tries more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rank_sweep.programs import MODELS, Program
from tests.rank_sweep.ranks import differences

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


@pytest.mark.parametrize(
    ("strategy", "world_size"), [("ddp", 2), ("ddp", 3), ("fsdp", 2), ("fsdp", 3), ("fsdp-root", 2), ("hsdp", 2)]
)
def test_programs_come_to_the_same_on_ranks_as_in_one_process(tmp_path: Path, strategy: str, world_size: int):
    # The first of each kind of module.
    seeds = range(50 * world_size, 50 * world_size + 200)
    chosen = {Program.draw(seed).model: seed for seed in reversed(seeds)}
    assert len(chosen) == len(MODELS)
    found = list(differences(sorted(chosen.values()), world_size, tmp_path, timeout_s=100, strategy=strategy))
    assert not found, "\n".join(f"{program}:\n{what}" for program, what in found)
