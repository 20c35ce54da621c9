from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainkit.interval import Interval
from trainkit.loops.cadence import Cadence
from trainkit.progress import Progress
from trainkit.strategies import SingleDevice


def cadence(size: float, unit: Any, progress: Progress) -> Cadence:
    strategy = SingleDevice()
    strategy.assign([torch.device("cpu")])
    return Cadence(Interval(size, unit), progress, strategy)


def test_what_a_run_has_behind_it_is_not_due() -> None:
    progress = Progress(global_step=7)
    every = cadence(5, "steps", progress)
    assert every.passed() == 0
    progress.global_step = 10
    assert (every.passed(), every.passed()) == (1, 0)


def test_a_batch_may_pass_several_multiples() -> None:
    progress = Progress()
    every = cadence(10, "samples", progress)
    progress.samples = 35
    assert every.passed() == 3


def test_a_run_that_goes_on_misses_nothing_and_does_nothing_twice() -> None:
    progress = Progress(global_step=4)
    state = cadence(5, "steps", progress).state_dict()
    progress.global_step = 5
    resumed = cadence(5, "steps", progress)
    resumed.load_state_dict(state)
    assert (resumed.passed(), resumed.passed()) == (1, 0)
    again = cadence(5, "steps", progress)
    again.load_state_dict(resumed.state_dict())
    assert again.passed() == 0


def test_another_unit_is_counted_from_where_the_run_is() -> None:
    progress = Progress(global_step=100, total_batches=7)
    every = cadence(5, "batches", progress)
    every.load_state_dict(cadence(5, "steps", progress).state_dict())
    progress.total_batches = 9
    assert every.passed() == 0
    progress.total_batches = 10
    assert every.passed() == 1


def test_samples_that_were_counted_anew_are_not_overdue_for_ever() -> None:
    progress = Progress(samples=3)
    every = cadence(5, "samples", progress)
    every.load_state_dict({"samples": 1000})
    progress.samples = 5
    assert every.passed() == 1


@pytest.mark.parametrize("seen", [-1, -1e300, float("nan"), float("inf"), 8, 0])
def test_what_a_made_up_file_says_is_not_followed(seen: float) -> None:
    progress = Progress(samples=7 if seen else 2**50)
    every = cadence(1, "samples", progress)
    every.load_state_dict({"samples": seen})
    assert every.passed() == 0


def test_time_is_that_spent_in_fits() -> None:
    progress = Progress()
    every = cadence(60, "seconds", progress)
    progress.load_state_dict({"elapsed_s": 59.0})
    assert every.passed() == 0
    progress.load_state_dict({"elapsed_s": 61.0})
    assert (every.passed(), every.passed()) == (1, 0)


def test_ranks_go_by_the_time_on_which_they_agree() -> None:
    asked: list[tuple[str, float | None]] = []

    def time_of(clock: str, now_s: float | None) -> float | None:
        asked.append((clock, now_s))
        return 12.5 if len(asked) == 2 else None  # what another rank has found by its clock

    strategy = SingleDevice()
    strategy.assign([torch.device("cpu")])
    every = Cadence(Interval(5.0, "seconds"), Progress(), strategy, "rows")
    every.agreement = SimpleNamespace(time_of=time_of)  # type: ignore[assignment]  # stands for it
    assert (every.passed(), every.passed(), every.passed()) == (0, 2, 0)
    assert asked == [("rows", None)] * 3
    assert every.state_dict() == {"seconds": 12.5}
