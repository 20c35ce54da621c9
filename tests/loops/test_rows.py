from __future__ import annotations

from typing import Any

import torch

from trainkit.interval import Interval
from trainkit.loops.rows import Rows
from trainkit.progress import Progress
from trainkit.strategies import SingleDevice


def rows_of(size: float, unit: Any, progress: Progress) -> Rows:
    strategy = SingleDevice()
    strategy.assign([torch.device("cpu")])
    return Rows(Interval(size, unit), progress, strategy)


def test_by_steps_it_is_known_ahead() -> None:
    progress = Progress()
    rows = rows_of(3, "steps", progress)
    assert rows.are_foreseen
    assert [step for step in range(1, 8) if rows.may_have(step)] == [3, 6]
    progress.global_step = 6
    assert rows.newest_has_one()
    assert rows.state_dict() == {}


def test_without_rows_of_steps_no_update_has_one() -> None:
    rows = Rows(None, Progress(global_step=3), SingleDevice())
    assert rows.are_foreseen
    assert not rows.may_have(3)
    assert not rows.newest_has_one()


def test_all_who_ask_behind_an_update_are_told_the_same() -> None:
    progress = Progress()
    rows = rows_of(3, "batches", progress)
    assert not rows.are_foreseen
    assert rows.may_have(1)
    found = []
    for batches in range(1, 9):
        progress.total_batches = batches
        progress.global_step = batches // 2
        found.append((rows.newest_has_one(), rows.newest_has_one()))
    # After each update for as long as it is the newest: updates are made behind batches 2, 4, 6 and 8.
    due = [False, False, False, True, True, True, True, False]
    assert found == [(each, each) for each in due]


def test_the_answer_for_the_newest_update_is_kept() -> None:
    progress = Progress()
    rows = rows_of(2, "batches", progress)
    progress.total_batches = progress.global_step = 2
    assert rows.newest_has_one()
    resumed = rows_of(2, "batches", progress)
    assert not resumed.newest_has_one()
    resumed.load_state_dict(rows.state_dict())
    assert resumed.newest_has_one()
    progress.total_batches = progress.global_step = 3
    assert not resumed.newest_has_one()


def test_a_run_that_goes_by_steps_now_leaves_what_another_unit_has_seen() -> None:
    rows = rows_of(2, "steps", Progress(global_step=4))
    rows.load_state_dict({"step": 4, "is_due": False, "seen": {"batches": 4}})
    assert rows.newest_has_one()
