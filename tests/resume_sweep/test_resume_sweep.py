"""A hundred stops of programs drawn by chance; ``python -m tests.resume_sweep --stops 2000`` makes more of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.resume_sweep.stops import PLACES_OF_A_PROGRAM, Sweep

pytestmark = pytest.mark.slow

STOPS = 100
FAILED_BEFORE = (46, 136, 156, 205, 223)
"""Seeds that once found something: flags beside finetuning, dtypes of ASGD and NAdam, an average in bfloat16."""

NOT_YET = {
    "a save in the middle of a hook leaves out what is still to come in it": (4, 12, 28, 31, 36, 52, 54, 67, 85, 86),
    "a run that was asked to stop trains on, or its on_train_end is lost": (0, 11, 13, 17, 23, 25, 80, 82),
}
"""Seeds that fail for a reason that is known. A line goes when its reason does."""


@pytest.mark.parametrize("program", range(STOPS // PLACES_OF_A_PROGRAM))
def test_a_stopped_run_ends_as_the_one_that_was_left_alone(tmp_path: Path, program: int) -> None:
    sweep, known = Sweep(tmp_path), {seed for seeds in NOT_YET.values() for seed in seeds}
    seeds = range(program * PLACES_OF_A_PROGRAM, (program + 1) * PLACES_OF_A_PROGRAM)
    results = [sweep.stop(seed) for seed in seeds]
    assert {result.seed: result.what for result in results if result.what and result.seed not in known} == {}


@pytest.mark.parametrize("seed", FAILED_BEFORE)
def test_a_stop_that_once_found_something_ends_equal(tmp_path: Path, seed: int) -> None:
    assert Sweep(tmp_path).stop(seed).what == ""
