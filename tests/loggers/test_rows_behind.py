from __future__ import annotations

from trainkit.loggers.rows_behind import RowsBehind


def behind(*rows):
    return RowsBehind([(step, frozenset(names.split())) for step, names in rows])


def passed(rows, *logged):
    for step, names in logged:
        rows.log(step, names.split())
    return rows.passed


def test_rows_that_come_again_are_passed_one_by_one():
    rows = behind((1, "a"), (2, "a"), (2, "val"), (3, "a"))
    assert [passed(rows, row) for row in [(1, "a"), (2, "a"), (2, "val"), (3, "a")]] == [1, 2, 3, 4]
    assert rows.are_passed


def test_steps_that_do_not_grow_are_passed_by_their_order():
    rows = behind((1000, "own"), (1, "a"), (0, "epoch"), (2000, "own"), (2, "a"), (0, "epoch"))
    assert [passed(rows, row) for row in [(1000, "own"), (1, "a"), (0, "epoch"), (2000, "own")]] == [1, 2, 3, 4]


def test_rows_that_do_not_come_again_are_passed_by_the_next_step():
    rows = behind((1, "old"), (1, "val"), (2, "old"))
    assert [passed(rows, row) for row in [(1, "new"), (2, "new"), (3, "new")]] == [0, 2, 3]


def test_the_end_passes_what_the_newest_step_had_and_no_more():
    rows = behind((1, "a"), (1, "val"), (2, "a"))
    rows.log(1, ["a"])
    rows.finish()
    assert (rows.passed, rows.are_passed) == (2, False)


def test_a_run_that_logged_nothing_passes_nothing():
    rows = behind((0, "a"))
    rows.finish()
    assert (rows.passed, rows.are_passed, behind().are_passed) == (0, False, False)
