"""Whatever is killed when, a whole checkpoint is there, the newest one that there was or a newer one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.sharded.killing import Killing

pytestmark = pytest.mark.slow

DRAWS = 10


@pytest.mark.parametrize("first", [0, 10, 20])
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path, first: int) -> None:
    killing = Killing(tmp_path)
    assert [wrong for seed in range(first, first + DRAWS) if (wrong := killing.draw(seed))] == []
    # Each save has deleted what the process before it has left.
    assert len(killing.leftovers()) <= 2
