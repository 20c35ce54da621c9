"""A few of the kills of ``scripts/kill_harness.py``, which sends SIGKILL to runs at random moments."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from scripts.kill_harness import CASES, difference, run_killed, run_whole


@pytest.mark.slow
@pytest.mark.distributed
def test_a_run_that_is_killed_while_it_trains_and_while_it_saves_ends_as_one_that_is_not(tmp_path: Path) -> None:
    overrides = CASES["2 workers"]
    run_whole(tmp_path / "whole", overrides)

    outcome = run_killed(tmp_path / "killed", overrides, ["saving", "training"], random.Random(1))

    assert outcome.wrong == []
    assert outcome.kills == 2
    assert outcome.from_a_checkpoint == 2
    assert outcome.while_saving >= 1
    assert difference(tmp_path / "killed", tmp_path / "whole") == ""
