from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from trainkit.doctor.report import Fact, Finding, Report

TEXT = st.text(min_size=1, max_size=300)
FOUND = st.lists(
    st.builds(Fact, st.sampled_from(["cpu", "a", "ranks"]), TEXT)
    | st.builds(Finding, st.sampled_from(["broken", "slow"]), TEXT, TEXT, TEXT)
)


@given(FOUND)
def test_a_page_is_80_columns_wide_and_acts_on_no_terminal(found: list[Fact | Finding]) -> None:
    report = Report()
    report.add(found)
    lines = str(report).split("\n")
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)
    assert json.loads(json.dumps(report.as_json()))["broken"] == report.is_broken


def test_what_is_broken_comes_first_and_a_label_once() -> None:
    report = Report()
    report.add([Fact("cuda", "one"), Fact("cuda", "two"), Finding("slow", "a", "b", "c")])
    assert not report.is_broken
    report.add([Finding("broken", "d", "e", "f")])
    assert report.is_broken
    assert str(report).split("\n") == [
        "cuda         one",
        "             two",
        "",
        "broken       d: e. To do: f.",
        "slow         a: b. To do: c.",
    ]


def test_it_says_that_there_is_nothing() -> None:
    assert str(Report()).strip() == "nothing was found that is broken or slow."
