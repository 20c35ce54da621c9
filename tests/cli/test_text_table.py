from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainkit.cli.text_table import text_table


def test_a_table_that_has_room_is_one() -> None:
    assert list(text_table([["run", "step"], ["a", "10"], ["longer", "1\n"]], 80)) == [
        "run     step",
        "a       10",
        r"longer  1\n",
    ]


def test_what_has_no_room_follows_below() -> None:
    assert list(text_table([["run", "one", "two"], ["a", "1", "2"]], 9)) == [
        "run  one",
        "a    1",
        "",
        "run  two",
        "a    2",
    ]


def test_ends_of_long_names_stay() -> None:
    assert list(text_table([["runs/of/last/week/version_12", "1"]], 40)) == ["runs/of/l…ersion_12  1"]


TABLES = st.integers(1, 6).flatmap(
    lambda columns: st.lists(st.lists(st.text("ab", max_size=30), min_size=columns, max_size=columns), min_size=1)
)


@given(rows=TABLES, width=st.integers(8, 60))
def test_lines_fit_and_no_column_is_lost(rows: list[list[str]], width: int) -> None:
    lines = list(text_table(rows, width))
    assert all(len(line) <= width for line in lines)
    blocks = (len(lines) + 1) // (len(rows) + 1)
    assert len(lines) == blocks * len(rows) + blocks - 1
    text = "\n".join(lines)
    assert all(cell in text for row in rows for cell in row if len(cell) <= (width - 2) // 2)
