from __future__ import annotations

from typing import Any

import pytest
import torch

from trainkit.errors import CheckpointError, MetricError, StateError
from trainkit.storage.owners import dict_of, given_to, restoring, state_of


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


def test_keys_and_paths_are_of_one_line_and_do_not_act() -> None:
    place, path = "callbacks.\n\x1b[2J", "a\n.ckpt"
    with pytest.raises(KeyError) as met, given_to(object(), place, path):
        raise KeyError("n")
    assert met.value.__notes__ == [r"in object (builtins), which was given callbacks.\n\x1b[2J of a\n.ckpt"]
    with pytest.raises(CheckpointError, match=r"^a\\n.ckpt is whole, and yet callbacks.\\n\\x1b\[2J in it"):
        with restoring(place, path):
            raise KeyError("n")


def test_a_state_that_its_owner_refuses_is_one_of_the_file() -> None:
    with pytest.raises(CheckpointError, match="a.ckpt is whole, and yet callbacks.mine in it cannot be used: n is 1"):
        with given_to(object(), "callbacks.mine", "a.ckpt"):
            raise StateError("n is 1")


class Gives:
    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> Any:
        if isinstance(self.state, Exception):
            raise self.state
        return self.state


def test_what_fails_while_a_state_is_given_names_whose_it_is() -> None:
    with pytest.raises(KeyError) as met:
        state_of(Gives(KeyError("n")))
    assert met.value.__notes__ == [f"in Gives ({__name__}), which was asked for its state_dict()"]


def test_a_state_that_no_load_would_take_is_refused_when_it_is_saved() -> None:
    for state, kind in [(torch.zeros(2), "of type Tensor"), ("abc", "of type str"), (None, "None"), ([1], "list")]:
        with pytest.raises(StateError, match=f"Gives .*state_dict.. returned .*{kind}, and a checkpoint holds a dict"):
            dict_of(Gives(state))
    assert dict_of(Gives({1: "x"})) == {1: "x"}
    assert dict_of(Gives(None), may_be_none=True) == {}
