"""A hundred stops of programs drawn by chance; ``python -m tests.resume_sweep --stops 2000`` makes more of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.resume_sweep.stops import PLACES_OF_A_PROGRAM, Sweep

pytestmark = pytest.mark.slow

STOPS = 100
FAILED_BEFORE = (46, 136, 156, 205, 223, 263, 331, 392, 507, 20152, 70372, 310016, 300208, 310486)
"""Seeds that once found something: flags beside finetuning, dtypes of ASGD and NAdam, an average in bfloat16, a kill
between two saves, a validation that was due when a stop was asked for, step values of a validation, a group that was
open under 16-mixed, a parameter that was frozen, files that a save by hand had displaced, and files that were under way
in the background."""


@pytest.mark.parametrize("program", range(STOPS // PLACES_OF_A_PROGRAM))
def test_a_stopped_run_ends_as_the_one_that_was_left_alone(tmp_path: Path, program: int) -> None:
    sweep = Sweep(tmp_path)
    seeds = range(program * PLACES_OF_A_PROGRAM, (program + 1) * PLACES_OF_A_PROGRAM)
    results = [sweep.stop(seed) for seed in seeds]
    assert {result.seed: result.what for result in results if result.what} == {}


@pytest.mark.parametrize("seed", FAILED_BEFORE)
def test_a_stop_that_once_found_something_ends_equal(tmp_path: Path, seed: int) -> None:
    assert Sweep(tmp_path).stop(seed).what == ""
