from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.errors import ConfigError
from trainkit.interval import Interval, is_interval, read_interval
from trainkit.progress import Progress


@pytest.mark.parametrize(
    ("text", "size", "unit"),
    [
        ("500 steps", 500, "steps"),
        ("1 step", 1, "steps"),
        ("2 epochs", 2, "epochs"),
        ("10k samples", 10_000, "samples"),
        ("10 K samples", 10_000, "samples"),
        ("1.5M samples", 1_500_000, "samples"),
        ("1.1k samples", 1_100, "samples"),
        ("2B samples", 2 * 10**9, "samples"),
        ("10_000 samples", 10_000, "samples"),
        (" 250batches ", 250, "batches"),
        ("90 s", 90, "seconds"),
        ("30 min", 1800, "seconds"),
        ("1.5h", 5400, "seconds"),
        ("1k s", 1000, "seconds"),
        ("2 days", 172_800, "seconds"),
        ("00:12:00:00", 43_200, "seconds"),
        (timedelta(minutes=3), 180, "seconds"),
        ({"hours": 1}, 3600, "seconds"),
    ],
)
def test_a_number_and_its_unit_are_read(text: Any, size: float, unit: Any) -> None:
    assert read_interval("every", text, "Owner") == Interval(size, unit)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("500 stpes", r"every='500 stpes' has the unit 'stpes', which there is not. Did you mean '500 steps'\?"),
        ("10k sample s", "is no number with a unit"),
        ("3 Epochs", r"Did you mean '3 epochs'\?"),
        ("10k tokens", "counts tokens, of which nobody knows .* Say steps or samples"),
        ("10k tokenz", "has the unit 'tokenz', which there is not. Allowed"),
        ("500", r"every='500' has no unit. Is it '500 steps'\?"),
        ("5M", r"has no unit. Is it '5M steps'\?"),
        (500, r"every=500 is no interval, but a number without a unit. Is it '500 steps'\?"),
        ("0 steps", "is not above 0"),
        ("0 min", "is not above 0"),
        (timedelta(0), "is not above 0"),
        ("-1 steps", "is negative"),
        ("0.5 epochs", "is no whole number of epochs"),
        ("1.2345k samples", "is no whole number of samples"),
        ("99000000B samples", "is more than a run can come to"),
        ("9" * 5000 + " steps", "is more than a run can come to"),
        ("steps", "has no number. Did you mean '1 steps'"),
        ("", "is no number with a unit"),
        (None, "is no interval"),
        (2.5, "is no interval"),
        (True, "is no interval"),
        ("1:2", "is not a duration"),
        ({"hour": 1}, "is not a duration"),
    ],
)
def test_what_is_no_interval_is_refused_with_what_was_meant(wrong: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        read_interval("every", wrong, "Owner")
    assert "Owner: every=" in str(refused.value)
    assert "Allowed: a number" in str(refused.value)


def test_what_is_an_interval_is_told_from_what_is_none() -> None:
    assert is_interval("500 steps") and is_interval("30 min")
    assert not any(map(is_interval, ("step", "epoch", "500", "", "0 steps", 500, None)))


def test_each_unit_is_one_of_the_counters_of_a_run() -> None:
    progress = Progress(epoch=2, is_last=True, global_step=3, total_batches=5, samples=7)
    progress.load_state_dict(progress.state_dict() | {"elapsed_s": 11.0})
    counts = {unit: Interval(1, unit).count(progress) for unit in ("epochs", "steps", "batches", "samples", "seconds")}
    assert counts == {"epochs": 3, "steps": 3, "batches": 5, "samples": 7, "seconds": 11}


@given(size=st.integers(1, 9), growth=st.lists(st.integers(0, 30)))
def test_no_multiple_is_missed_and_none_is_found_twice(size: int, growth: list[int]) -> None:
    every, count, found = Interval(size, "samples"), 0, 0
    for more in growth:
        passed = every.passed(count, count + more)
        assert (passed > 0) == (every.left(count, count + more) <= 0)
        found += passed
        count += more
    assert found == len([number for number in range(1, count + 1) if number % size == 0])
