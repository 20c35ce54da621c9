"""A few of the kills of ``scripts/kill_harness.py``, which sends SIGKILL to runs at random moments."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from scripts.kill_harness import CASES, difference, run_killed, run_whole

ATTEMPTS = 5
"""A kill that is meant for a save may come too late for it, on a machine that has other things to do."""


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.timeout(300)
def test_a_run_that_is_killed_while_it_trains_and_while_it_saves_ends_as_one_that_is_not(tmp_path: Path) -> None:
    overrides = CASES["2 workers"]
    run_whole(tmp_path / "whole", overrides)

    for attempt in range(ATTEMPTS):
        folder = tmp_path / f"killed {attempt}"
        outcome = run_killed(folder, overrides, ["saving", "training"], random.Random(attempt))

        assert outcome.wrong == []
        assert outcome.kills == 2
        assert outcome.from_a_checkpoint == 2
        assert difference(folder, tmp_path / "whole") == ""
        if outcome.while_saving:
            break
    else:
        pytest.fail(f"none of {ATTEMPTS} kills came in the middle of a save")
