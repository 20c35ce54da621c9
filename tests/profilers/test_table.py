from __future__ import annotations

from dataclasses import replace

from trainkit.profilers.ledger import Ledger, LedgerRow, RankShare, Share
from trainkit.profilers.table import MOST_RANKS, MOST_ROWS, as_text

LEDGER = Ledger(
    stage="fit",
    seconds=12.5,
    steps=1200,
    measured_steps=40,
    shares=(Share("forward", 10.0, 80.0), Share("the rest", 2.5, 20.0)),
    rows=(LedgerRow("Mine", "on_train_batch_end", 1200, 1.25, 10.0), LedgerRow("", "augment", 3, 0.5, 4.0)),
)


def test_the_table_is_as_it_is_meant_to_look() -> None:
    assert as_text(LEDGER).splitlines() == [
        "trainkit: where the 12.5 s of fit went, in wall time of the host",
        "  40 of 1,200 training steps were measured; the others are taken to be like them",
        "",
        "  share                 seconds  percent",
        "  forward                10.000     80.0",
        "  the rest                2.500     20.0",
        "",
        "  plugin                hook                          calls   seconds  percent",
        "  Mine                  on_train_batch_end            1,200     1.250    10.00",
        "  (own block)           augment                           3     0.500     4.00",
    ]


def test_where_all_steps_were_measured_nothing_is_said_of_that() -> None:
    assert "measured" not in as_text(replace(LEDGER, measured_steps=1200))


def test_slow_steps_that_nothing_explains_are_counted() -> None:
    for steps, words in ((1, "1 other took far longer"), (1234, "1,234 others took far longer")):
        line = as_text(replace(LEDGER, slow_steps=steps)).splitlines()[2]
        assert words in line and len(line) <= 80


def test_ranks_are_told_with_those_that_wait_most_first() -> None:
    ranks = tuple(RankShare(rank, 1.0, float(rank), 2.0) for rank in range(MOST_RANKS + 3))
    lines = as_text(replace(LEDGER, ranks=ranks)).splitlines()
    assert max(map(len, lines)) <= 80
    first = next(index for index, line in enumerate(lines) if line.startswith("  rank")) + 1
    assert lines[first].split() == [str(MOST_RANKS + 2), "1.0", f"{MOST_RANKS + 2:.1f}", "2.0"]
    assert lines[first + MOST_RANKS] == "  and 3 more"


def test_many_rows_and_small_ones_are_counted_and_long_names_are_cut() -> None:
    name = "a[/x]\x1b[2J" + "b" * 30
    rows = (
        *(LedgerRow(name, "h" * 40, 10**6, 100.0, 1.0),) * (MOST_ROWS + 2),
        LedgerRow("tiny", "setup", 1, 1e-9, 1e-9),
    )
    text = as_text(replace(LEDGER, rows=rows))
    assert max(map(len, text.splitlines())) <= 80
    assert "and 3 more" in text and "tiny" not in text
    assert r"a[/x]\x1b[2Jbbbbbbbb…" in text
