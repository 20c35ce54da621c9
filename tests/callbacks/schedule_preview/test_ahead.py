from __future__ import annotations

import math

import pytest

from trainkit.callbacks.schedule_preview.ahead import Ahead, Epoch


def ahead(**known):
    begin = {"step": 0, "epoch": 0, "batch": 0, "num_batches": 5, "accumulation": {0: 1}}
    return Ahead(**(begin | {"max_epochs": 2, "max_steps": math.inf} | known))


@pytest.mark.parametrize(
    ("known", "epochs"),
    [
        ({}, [Epoch(0, 5, True), Epoch(1, 5, True)]),
        ({"accumulation": {0: 2}}, [Epoch(0, 3, True), Epoch(1, 3, True)]),
        ({"accumulation": {0: 1, 1: 5}}, [Epoch(0, 5, True), Epoch(1, 1, True)]),
        ({"max_steps": 7}, [Epoch(0, 5, True), Epoch(1, 2, False)]),
        ({"max_steps": 5}, [Epoch(0, 5, True)]),
        ({"step": 3, "batch": 3}, [Epoch(0, 2, True), Epoch(1, 5, True)]),
        ({"step": 1, "batch": 3, "accumulation": {0: 2}}, [Epoch(0, 2, True), Epoch(1, 3, True)]),
        ({"step": 3, "batch": 5, "accumulation": {0: 2}}, [Epoch(1, 3, True)]),
        ({"step": 5, "epoch": 1, "max_steps": 7}, [Epoch(1, 2, False)]),
        ({"num_batches": None, "max_steps": 7}, [Epoch(0, 7, False)]),
        ({"max_epochs": math.inf, "max_steps": 7}, [Epoch(0, 5, True), Epoch(1, 2, False)]),
        ({"num_batches": 0}, []),
        ({"epoch": 2}, []),
    ],
    ids=str,
)
def test_updates_that_are_to_come(known, epochs):
    assert list(ahead(**known).epochs(math.inf)) == epochs
    assert ahead(**known).updates == sum(epoch.updates for epoch in epochs)


@pytest.mark.parametrize("known", [{"num_batches": None}, {"max_epochs": math.inf}])
def test_of_some_runs_nobody_knows_how_many(known):
    assert ahead(**known).updates == math.inf
    assert sum(epoch.updates for epoch in ahead(**known).epochs(12)) == 12
