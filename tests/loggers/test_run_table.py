from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.loggers.run_table import MetricSummary, read_table


@given(values=st.lists(st.floats(width=16), min_size=1))
def test_a_summary_knows_the_best_of_the_finite_values_and_where_they_were(values: list[float]) -> None:
    summary = MetricSummary()
    for step, value in enumerate(values):
        summary.add(value, step)
    finite = [value for value in values if math.isfinite(value)]
    assert summary.last == values[-1] or math.isnan(values[-1])
    assert (summary.least, summary.greatest) == (min(finite, default=None), max(finite, default=None))
    for value, step in ((summary.least, summary.least_at), (summary.greatest, summary.greatest_at)):
        assert (step is None) is (value is None)
        assert step is None or values.index(value) == step  # type: ignore[arg-type]


def test_no_value_is_no_best_one() -> None:
    assert MetricSummary().least is MetricSummary().greatest is MetricSummary().least_at is None


@pytest.mark.parametrize("prefix", ["", "a-", "a-b-"])
def test_epochs_are_no_metric_whatever_is_before_their_name(tmp_path: Path, prefix: str) -> None:
    (tmp_path / "metrics.csv").write_text(f"step,{prefix}epoch,{prefix}loss\n1,0,2\n3,1,\n")
    table = read_table(tmp_path / "metrics.csv")
    assert table is not None and (table.step, table.epoch, list(table.metrics)) == (3, 1, [f"{prefix}loss"])


def test_what_is_named_after_epochs_is_a_metric(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,epoch,per-epoch,loss\n1,0,2,3\n")
    table = read_table(tmp_path / "metrics.csv")
    assert table is not None and list(table.metrics) == ["per-epoch", "loss"] and table.epoch == 0


@pytest.mark.parametrize("text", ["", "time,loss\n1,2\n", None])
def test_other_tables_are_of_no_run(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "metrics.csv").write_text(text)
    assert read_table(tmp_path / "metrics.csv") is None


def test_a_spoiled_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss\ninf,1\n")
    with pytest.raises(ValueError, match="a step in it is inf"):
        read_table(tmp_path / "metrics.csv")
