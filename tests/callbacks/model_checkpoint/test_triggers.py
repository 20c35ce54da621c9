from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from trainkit.callbacks import ModelCheckpoint
from trainkit.callbacks.model_checkpoint.triggers import SaveTriggers
from trainkit.errors import ConfigError, StateError


def triggers(steps: int | None = None, interval: timedelta | None = None, epochs: int | None = None) -> SaveTriggers:
    return SaveTriggers(steps, interval, epochs, "ModelCheckpoint")


def test_without_arguments_every_epoch_counts() -> None:
    default = triggers()
    default.note_update(1)
    assert not default.is_due
    default.note_epoch(0)
    assert default.is_due_for_top_k


@pytest.mark.parametrize("other", [triggers(steps=2), triggers(interval=timedelta(hours=1)), triggers(epochs=0)])
def test_otherwise_the_end_of_an_epoch_is_for_last_only(other: SaveTriggers) -> None:
    other.note_epoch(0)
    assert other.is_due
    assert not other.is_due_for_top_k


def test_epochs_are_counted_from_the_first() -> None:
    every_second = triggers(epochs=2)
    due = []
    for epoch in range(4):
        every_second.note_epoch(epoch)
        due.append(every_second.take())
    assert due == [False, True, False, True]


def test_an_update_counts_once_however_often_it_is_noted() -> None:
    every_second = triggers(steps=2)
    due = []
    for global_step in (0, 1, 1, 2, 2, 3, 4):
        every_second.note_update(global_step)
        due.append(every_second.take())
    assert due == [False, False, False, True, False, False, True]


def test_updates_of_an_earlier_session_are_not_due_again() -> None:
    every_second = triggers(steps=2)
    every_second.start(4, is_resumed=False)
    every_second.note_update(4)
    assert not every_second.is_due


def test_what_is_due_stays_so_only_in_a_run_that_goes_on() -> None:
    every_second = triggers(steps=2)
    every_second.note_update(4)
    every_second.start(4, is_resumed=True)
    assert every_second.is_due
    every_second.start(4, is_resumed=False)
    assert not every_second.is_due


def test_what_is_due_stays_due_until_it_is_taken() -> None:
    every_second = triggers(steps=2)
    every_second.note_update(2)
    every_second.note_update(3)
    assert every_second.take()
    assert not every_second.is_due


def test_time_is_over_once_and_starts_anew() -> None:
    soon, late = triggers(interval=timedelta(microseconds=1)), triggers(interval=timedelta(days=1))
    assert soon.is_time()
    assert not late.is_time()
    soon.note_time()
    assert soon.take()
    assert not triggers().is_time()


@pytest.mark.parametrize(
    "arguments",
    [
        {"steps": -1},
        {"steps": True},
        {"steps": 2.0},
        {"epochs": -1},
        {"interval": timedelta(0)},
        {"interval": 3600},
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"ModelCheckpoint: .* must be"):
        triggers(**arguments)  # type: ignore[arg-type]


def test_any_unit_may_say_when_and_no_other_trigger_may_beside_it() -> None:
    every = SaveTriggers(None, None, None, "ModelCheckpoint", "2 epochs")
    every.note_epoch(1)  # a save point, which counts for last.ckpt only
    assert every.is_due
    assert not every.is_due_for_top_k
    with pytest.raises(ConfigError, match=r"ModelCheckpoint: every_n_epochs=1 and every='2 epochs' exclude each other"):
        SaveTriggers(None, None, 1, "ModelCheckpoint", "2 epochs")
    with pytest.raises(ConfigError, match=r"ModelCheckpoint: every='2 epocs'.*Did you mean '2 epochs'"):
        SaveTriggers(None, None, None, "ModelCheckpoint", "2 epocs")


def test_triggers_exclude_each_other_unless_they_are_off() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        triggers(steps=2, epochs=1)
    with pytest.raises(ConfigError, match="exclude each other"):
        triggers(steps=2, interval=timedelta(hours=1))
    assert triggers(steps=2, epochs=0).every_n_train_steps == 2


@pytest.mark.parametrize("due", [[], [True], [True, False, True], [1, 0]])
def test_a_made_up_note_is_refused(due: list[Any]) -> None:
    callback = ModelCheckpoint()
    with pytest.raises(StateError, match="due is a list, and a tuple or list of 2"):
        callback.load_state_dict({**callback.state_dict(), "due": due})
