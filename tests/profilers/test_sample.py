from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.hooks.stopwatch import Spent
from trainkit.profilers.sample import ENOUGH, Sample, SlowSteps


def sample(measured: int = ENOUGH) -> tuple[Sample, Spent, Spent]:
    """Return 90 usual steps of 0.1 s and 20 slow ones of 1 s that were not measured, and what was."""
    forward = Spent(10, 1.0, 90.0, 9.0, in_slow={30: (10.0, 1.0)})
    callback = Spent(10, 0.5, 90.0, 0.0, in_slow={30: (10.0, 9.0)})
    known = Sample(steps=130, measured=20, weight=90.0, unmeasured=Spent(seconds=9.0), usual_s=0.1)
    known.slow[30] = SlowSteps(20, 20.0, measured)
    known.divide([forward, callback])
    return known, forward, callback


def test_slow_steps_are_divided_as_those_that_were_as_slow() -> None:
    known, forward, callback = sample()
    assert known.unexplained_s == 0
    assert known.seconds_of(forward) == pytest.approx(1.0 + 9.0 + 2.0)
    assert known.seconds_of(callback) == pytest.approx(0.5 + 18.0)
    assert known.calls_of(forward) == 10 + 90 + 20


def test_slow_steps_of_which_few_were_measured_are_usual_ones_and_something_unexplained() -> None:
    known, forward, callback = sample(measured=ENOUGH - 1)
    assert known.unexplained_s == pytest.approx(20.0 - 2.0)
    assert known.seconds_of(forward) == pytest.approx(1.0 + 9.0 + 2.0)
    assert known.seconds_of(callback) == 0.5
    assert known.calls_of(forward) == 10 + 110


@given(
    kinds=st.dictionaries(
        st.integers(20, 40), st.tuples(st.integers(0, 9), st.floats(0, 9), st.integers(0, 20), st.floats(0.1, 9))
    )
)
def test_all_time_is_somewhere(kinds: dict[int, tuple[int, float, int, float]]) -> None:
    spent, known = Spent(1, 1.0, 1.0, 1.0), Sample(steps=100, measured=1, weight=1.0, unmeasured=Spent(seconds=5.0))
    for kind, (steps, seconds, measured, more_s) in kinds.items():
        known.slow[kind] = SlowSteps(steps, seconds if steps else 0.0, measured)
        spent.in_slow[kind] = float(measured), more_s
    known.divide([spent])
    whole = 1.0 + 5.0 + sum(each.seconds for each in known.slow.values())
    assert known.seconds_of(spent) + known.unexplained_s == pytest.approx(whole)
