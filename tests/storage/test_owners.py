from __future__ import annotations

import pytest

from trainkit.errors import CheckpointError, MetricError, StateError
from trainkit.storage.owners import given_to, restoring


@pytest.mark.parametrize("error", [KeyError("n"), TypeError("no n"), ZeroDivisionError("n"), StateError("n is 'x'")])
def test_what_goes_wrong_with_what_trainkit_saved_names_file_and_place(error: Exception) -> None:
    with pytest.raises(CheckpointError, match="a.ckpt is whole, and yet trainkit.rng in it cannot be used: .*n") as met:
        with restoring("trainkit.rng", "a.ckpt"):
            raise error
    assert met.value.__cause__ is error


def test_an_error_that_is_named_already_stays() -> None:
    with pytest.raises(MetricError, match="^named$"), restoring("trainkit.metrics", "a.ckpt"):
        raise MetricError("named")


def test_what_others_raise_stays_with_a_note() -> None:
    with pytest.raises(KeyError) as met, given_to(object(), "callbacks.mine", "a.ckpt"):
        raise KeyError("n")
    assert met.value.__notes__ == ["in object (builtins), which was given callbacks.mine of a.ckpt"]


def test_a_state_that_its_owner_refuses_is_one_of_the_file() -> None:
    with pytest.raises(CheckpointError, match="a.ckpt is whole, and yet callbacks.mine in it cannot be used: n is 1"):
        with given_to(object(), "callbacks.mine", "a.ckpt"):
            raise StateError("n is 1")
