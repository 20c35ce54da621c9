from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.progress import COUNTERS, Progress


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


@given(st.lists(st.integers(1, 4), max_size=5))
def test_batches_are_counted_by_epoch_and_in_all(lengths: list[int]) -> None:
    progress = Progress()
    for epoch, length in enumerate(lengths):
        assert (progress.epoch, progress.batch, progress.is_last) == (epoch, 0, False)
        for batch in range(length):
            progress.count_batch(is_last=batch == length - 1)
            assert (progress.batch, progress.is_last) == (batch + 1, batch == length - 1)
        progress.count_epoch()
    assert (progress.epoch, progress.total_batches) == (len(lengths), sum(lengths))


def test_updates_are_counted_apart_from_batches() -> None:
    progress = Progress()
    progress.count_batch(is_last=False)
    progress.count_batch(is_last=False)
    progress.count_update()
    assert (progress.global_step, progress.total_batches) == (1, 2)


def test_a_validation_is_open_from_its_first_batch_until_it_is_counted() -> None:
    progress = Progress(batch=3)
    seen = [progress.in_validation]
    for loader, batches in ((0, 2), (1, 1), (2, 2)):
        for batch in range(batches):
            progress.count_validation_batch(loader)
            assert (progress.validation_loader, progress.validation_batch) == (loader, batch + 1)
            seen.append(progress.in_validation)
    progress.count_validation()
    assert seen == [False] + [True] * 5
    assert not progress.in_validation
    assert (progress.validated_batch, progress.validation_loader, progress.validation_batch) == (3, 0, 0)


def test_a_loader_that_has_given_nothing_yet_is_in_the_validation() -> None:
    assert Progress(validation_loader=1).in_validation


@pytest.mark.parametrize(
    ("counters", "is_closing"),
    [
        ({}, False),
        ({"batch": 2}, False),
        ({"batch": 2, "is_last": True}, True),
        ({"batch": 2, "is_last": True, "epoch_ended": True}, False),
        ({"batch": 2, "validation_batch": 1}, True),
        ({"batch": 2, "is_last": True, "epoch_ended": True, "validation_batch": 1}, True),
    ],
)
def test_what_begins_behind_a_batch_is_closing_until_it_is_over(counters: dict[str, Any], is_closing: bool) -> None:
    assert Progress(**counters).is_closing is is_closing


def test_an_epoch_that_is_counted_leaves_nothing_of_it_behind() -> None:
    progress = Progress(epoch=2, batch=5, is_last=True, epoch_ended=True, validated_batch=5, total_batches=15)
    progress.count_epoch()
    assert progress == Progress(epoch=3, total_batches=15)


def test_an_epoch_that_was_cut_short_begins_again_and_one_that_was_not_stays() -> None:
    cut = Progress(epoch=1, batch=3, validated_batch=2, validation_loader=1, validation_batch=4, global_step=8)
    cut.drop_unfinished()
    # The next validation is counted from here on.
    assert cut == Progress(epoch=1, global_step=8, validated_at_step=8, validated_at_epochs=1)
    whole = Progress(epoch=1, batch=3, is_last=True, validated_batch=3, validation_batch=4, global_step=8)
    whole.drop_unfinished()
    assert whole == Progress(epoch=1, batch=3, is_last=True, global_step=8)


def test_the_clock_runs_between_start_and_stop(clock: Clock) -> None:
    progress = Progress()
    clock.now_s += 5
    assert progress.elapsed_s == 0
    progress.start_clock()
    clock.now_s += 2
    assert progress.elapsed_s == 2
    progress.stop_clock()
    clock.now_s += 10
    assert progress.elapsed_s == 2
    progress.start_clock()
    clock.now_s += 1
    progress.start_clock()  # once more, which loses nothing
    clock.now_s += 1
    assert progress.elapsed_s == 4


def test_all_counters_come_back_and_time_goes_on(clock: Clock) -> None:
    state = {name: index + 1 for index, name in enumerate(COUNTERS)}
    progress = Progress()
    progress.load_state_dict({**state, "elapsed_s": 7.0})
    assert progress.state_dict() == {**state, "elapsed_s": 7.0}
    progress.start_clock()
    clock.now_s += 3
    assert progress.state_dict()["elapsed_s"] == 10.0


def test_every_public_field_is_a_counter() -> None:
    public = {field.name for field in dataclasses.fields(Progress) if not field.name.startswith("_")}
    assert set(COUNTERS) == public == set(Progress().state_dict()) - {"elapsed_s"}


def test_what_a_state_does_not_name_stays() -> None:
    progress = Progress(epoch=4, global_step=9)
    progress.load_state_dict({"elapsed_s": 7.0})
    progress.load_state_dict({"epoch": 5, "a counter of another version": 1})
    assert (progress.epoch, progress.global_step, progress.elapsed_s) == (5, 9, 7.0)


def test_nothing_is_overdue_in_a_checkpoint_that_does_not_tell_of_its_last_validation() -> None:
    state = Progress(epoch=2, is_last=True, global_step=30, total_batches=60, samples=240).state_dict()
    older = {
        name: value for name, value in state.items() if not name.startswith("validated_") or name == "validated_batch"
    }
    for saved, expected in ((state, (0, 0, 0, 0)), (older, (30, 60, 240, 3))):
        progress = Progress()
        progress.load_state_dict(saved)
        counts = (progress.validated_at_step, progress.validated_at_batches, progress.validated_at_samples)
        assert (*counts, progress.validated_at_epochs) == expected
