from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import trainkit
from trainkit.checkpoint.state import (
    FORMAT,
    collect_plugins,
    has_state,
    is_resumable,
    require_training_state,
    restore_plugins,
    signature,
    state_key,
)
from trainkit.errors import CheckpointError


class Remembers:
    def __init__(self, state: dict[str, Any], state_key: str | None = None) -> None:
        self.state = state
        if state_key is not None:
            self.state_key = state_key

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


class Forgets:
    pass


def test_a_checkpoint_is_signed_with_format_version_and_the_class_of_the_module() -> None:
    assert signature(nn.Linear(1, 1)) == {"format": FORMAT, "version": trainkit.__version__, "module": "Linear"}


def test_plugins_with_a_state_are_those_that_can_give_it() -> None:
    class OnlyGives:
        state_dict = Remembers.state_dict

    class Gone(Remembers):
        state_dict = None  # type: ignore[assignment]

    assert has_state(Remembers({}))
    assert has_state(OnlyGives())
    assert not has_state(Forgets())
    assert not has_state(Gone({}))
    assert not has_state(nn.Linear(1, 1)), "weights of a module are kept with the module's"


def test_a_state_that_cannot_be_given_back_is_told() -> None:
    class OnlyGives:
        def state_dict(self) -> dict[str, int]:
            return {"n": 1}

    plugins = [("gives", OnlyGives())]
    assert collect_plugins(plugins) == {"gives": {"n": 1}}
    with pytest.warns(UserWarning, match="OnlyGives has a state_dict and no load_state_dict"):
        assert restore_plugins(plugins, {"gives": {"n": 1}}, "a.ckpt") == []


class Keeps(Remembers):
    """Several have one state key."""

    def __init__(self, name: str, size: int = 0) -> None:
        super().__init__({"of": f"{name}{size}"}, "Keeps")
        self.name, self._size = name, size


def restored(plugins: list[Keeps], states: dict[str, Any]) -> list[str]:
    """Return whose state each of ``plugins`` got; its own name where it got none."""
    restore_plugins([(str(number), plugin) for number, plugin in enumerate(plugins)], states, "a.ckpt")
    return [plugin.state["of"] for plugin in plugins]


def collected(*plugins: Keeps) -> dict[str, Any]:
    return collect_plugins([(str(number), plugin) for number, plugin in enumerate(plugins)])


def test_several_of_one_key_are_told_apart_by_all_arguments_then_by_order() -> None:
    states = collected(Keeps("a"), Keeps("b", 1), Keeps("b", 2), Keeps("b", 2))
    assert list(states) == [
        "Keeps (name='a', size=0)",
        "Keeps (name='b', size=1)",
        "Keeps (name='b', size=2)",
        "Keeps (name='b', size=2) 2",
    ]
    assert restored([Keeps("b", 2), Keeps("b", 1), Keeps("a"), Keeps("b", 2)], states) == ["b2", "b1", "a0", "b2"]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ([Keeps("b", 9), Keeps("a")], ["b1", "a0"]),  # an argument was changed: the one that is left
        ([Keeps("c"), Keeps("d")], ["a0", "b1"]),  # all were: by order
        ([Keeps("b", 1)], ["b1"]),  # the other one is gone
        ([Keeps("c")], ["a0"]),
        ([Keeps("new"), Keeps("b", 1), Keeps("a")], ["new0", "b1", "a0"]),
    ],
)
def test_one_whose_arguments_were_changed_gets_what_is_left_of_its_kind(now: list[Keeps], expected: list[str]) -> None:
    assert restored(now, collected(Keeps("a"), Keeps("b", 1))) == expected


def test_where_there_was_one_the_first_of_several_goes_on_with_its_state() -> None:
    states = collected(Keeps("a"))
    assert list(states) == ["Keeps"]
    assert restored([Keeps("b"), Keeps("c")], states) == ["a0", "c0"]


def test_a_state_is_kept_by_the_key_of_the_plugin_or_else_by_its_name() -> None:
    assert state_key("registered as", Remembers({}, "own")) == "own"
    assert state_key("registered as", Remembers({}, "")) == "registered as"
    assert state_key("registered as", Forgets()) == "registered as"


def test_states_are_collected_by_key_without_those_that_are_empty() -> None:
    plugins = [("a", Remembers({"n": 1})), ("b", Forgets()), ("c", Remembers({})), ("d", Remembers({"n": 2}, "own"))]
    assert collect_plugins(plugins) == {"a": {"n": 1}, "own": {"n": 2}}


@pytest.mark.parametrize("state", [torch.zeros(2), np.arange(3), 0, "", "abc", [], {1: 2}, False], ids=repr)
def test_a_state_is_kept_whatever_its_type(state: Any) -> None:
    assert collect_plugins([("a", Remembers(state))])["a"] is state


def test_none_is_no_state() -> None:
    assert collect_plugins([("a", Remembers(None))]) == {}  # type: ignore[arg-type]


def test_states_come_back_to_their_plugins_and_those_that_nobody_takes_are_told() -> None:
    a, own, new = Remembers({}), Remembers({}, "own"), Remembers({"n": 9})
    plugins = [("a", a), ("b", Forgets()), ("d", own), ("new", new)]
    states = {"a": {"n": 1}, "own": {"n": 2}, "b": {"n": 3}, "gone": {"n": 4}}
    assert restore_plugins(plugins, states, "a.ckpt") == ["b", "gone"]
    assert (a.state, own.state, new.state) == ({"n": 1}, {"n": 2}, {"n": 9})
    assert list(states) == ["a", "own", "b", "gone"], "the checkpoint stays as it is"


def test_an_empty_state_that_was_saved_comes_back_too() -> None:
    plugin = Remembers({"n": 1})
    assert restore_plugins([("a", plugin)], {"a": {}}, "a.ckpt") == []
    assert plugin.state == {}


# What a fit can continue from

WHOLE: dict[str, Any] = {
    "state_dict": {},
    "optimizer_states": [],
    "lr_schedulers": [],
    "loops": {},
    "callbacks": {},
    "trainkit": {},
}


def test_a_fit_continues_from_what_holds_all_that_it_needs() -> None:
    assert is_resumable(WHOLE)
    require_training_state(WHOLE, "a.ckpt")


@pytest.mark.parametrize("key", [key for key in WHOLE if key != "state_dict"])
def test_it_does_not_where_something_is_missing_and_says_what(key: str) -> None:
    part = {name: value for name, value in WHOLE.items() if name != key}
    assert not is_resumable(part)
    with pytest.raises(
        CheckpointError, match=rf"a.ckpt holds weights only \(there is no {key}\).*load_from_checkpoint"
    ):
        require_training_state(part, "a.ckpt")
