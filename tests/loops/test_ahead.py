from __future__ import annotations

import math

import pytest

from trainkit.data.batch_sizes import BatchSizes
from trainkit.loops.ahead import Ahead


def ahead(**known):
    begin = {"step": 0, "epoch": 0, "batch": 0, "num_batches": 5, "accumulation": {0: 1}}
    return Ahead(**(begin | {"max_epochs": 2, "max_steps": math.inf} | known))


@pytest.mark.parametrize(
    ("known", "epochs"),
    [
        ({}, [(0, 5, True), (1, 5, True)]),
        ({"accumulation": {0: 2}}, [(0, 3, True), (1, 3, True)]),
        ({"accumulation": {0: 1, 1: 5}}, [(0, 5, True), (1, 1, True)]),
        ({"max_steps": 7}, [(0, 5, True), (1, 2, False)]),
        ({"max_steps": 5}, [(0, 5, True)]),
        ({"step": 3, "batch": 3}, [(0, 2, True), (1, 5, True)]),
        ({"step": 1, "batch": 3, "accumulation": {0: 2}}, [(0, 2, True), (1, 3, True)]),
        ({"step": 3, "batch": 5, "accumulation": {0: 2}}, [(1, 3, True)]),
        ({"step": 5, "epoch": 1, "max_steps": 7}, [(1, 2, False)]),
        ({"num_batches": None, "max_steps": 7}, [(0, 7, False)]),
        ({"max_epochs": math.inf, "max_steps": 7}, [(0, 5, True), (1, 2, False)]),
        (
            {"max_epochs": 4, "accumulation": {0: 1, 1: 5, 3: 2}},
            [(0, 5, True), (1, 1, True), (2, 1, True), (3, 3, True)],
        ),
        ({"num_batches": 0}, []),
        ({"epoch": 2}, []),
        ({"step": 8, "max_steps": 7}, []),
    ],
    ids=str,
)
def test_updates_that_are_to_come(known, epochs):
    made = ahead(**known)
    assert [(epoch.index, epoch.updates, epoch.ends) for epoch in made.epochs(math.inf)] == epochs
    assert made.updates == sum(updates for _, updates, _ in epochs)
    assert made.epochs_that_end == sum(ends for _, _, ends in epochs)


@pytest.mark.parametrize("known", [{"num_batches": None}, {"max_epochs": math.inf}])
def test_of_some_runs_nobody_knows_how_many(known):
    assert ahead(**known).updates == math.inf
    assert sum(epoch.updates for epoch in ahead(**known).epochs(12)) == 12


def test_many_epochs_are_counted_at_once():
    made = ahead(max_epochs=10**12, accumulation={0: 1, 10: 5})
    assert (made.updates, made.epochs_that_end) == (50 + 10**12 - 10, 10**12)


@pytest.mark.parametrize(
    ("known", "closes"),
    [
        ({"accumulation": {0: 2}}, [[2, 4, 5], [2, 4, 5]]),
        ({"accumulation": {0: 2}, "batch": 3, "step": 1}, [[4, 5], [2, 4, 5]]),
        ({"accumulation": {0: 2}, "num_batches": None, "max_steps": 3}, [[2, 4, 6]]),
    ],
)
def test_the_batches_behind_which_updates_are_made(known, closes):
    assert [list(epoch.closes()) for epoch in ahead(**known).epochs(math.inf)] == closes


def test_where_an_update_closes():
    [epoch, _] = ahead(accumulation={0: 2}).epochs(math.inf)
    assert (epoch.closed_by(1), epoch.closed_by(3)) == (2, 5)


def test_what_was_counted_at_the_newest_update():
    known = {"accumulation": {0: 2}, "epoch": 1, "step": 4, "total_batches": 8, "samples": 68}
    counted = ahead(**known, batch=3, sizes=BatchSizes(8, 36, ranks=1)).counters()
    assert (counted.epoch, counted.global_step, counted.total_batches, counted.samples) == (1, 4, 7, 60)
    counted = ahead(**known | {"total_batches": 10, "samples": 72}, batch=5).counters()
    assert (counted.epoch, counted.total_batches, counted.samples) == (2, 10, 72)
