from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
import torch

from trainkit.errors import StateError
from trainkit.storage.schema import AtLeast, Count, Exactly, Like, Scalar, mismatch, takes


class Loose(TypedDict, total=False):
    count: Count


PAIR = Annotated[list[bool], Exactly(2, bool)]


class Inner(TypedDict):
    count: Count
    names: NotRequired[list[str]]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, int),
        (1, float),
        (0, Count),
        (None, int | None),
        (OrderedDict(a=1), dict[str, int]),
        ([1.5, 2], list[float]),
        ((1, "a"), tuple[int, str]),
        ((), tuple[int, ...]),
        ("norm", Literal["norm", "value"]),
        (torch.zeros(1), torch.Tensor | float),
        ({"count": 3, "more": object()}, Inner),
        ({}, Loose),
        (object(), Any),
        (torch.zeros(3, dtype=torch.uint8), Annotated[torch.Tensor, Like(1, torch.uint8)]),
        (torch.tensor(1.0), Scalar),
    ],
)
def test_what_is_as_expected(value: Any, expected: Any) -> None:
    assert mismatch(value, expected) == ""


@pytest.mark.parametrize(
    ("value", "expected", "told"),
    [
        (True, int, "(all) is True, and a int was expected"),
        (1.0, int, "(all) is 1.0, and a int was expected"),
        (True, float, "(all) is True, and a float was expected"),
        (-1, Count, "(all) is -1, and a count was expected"),
        (10**20, Count, "(all) is 100000000000000000000, and a count was expected"),
        (11, Annotated[int, AtLeast(0, most=10)], "(all) is 11, and a count up to 10 was expected"),
        (
            0,
            Annotated[int, AtLeast(1, most=10)],
            "(all) is 0, and a whole number of at least 1 and up to 10 was expected",
        ),
        ("x", int | None, "(all) is 'x', and a int or None was expected"),
        ({"a": [1, "b"]}, dict[str, list[int]], "a[1] is 'b', and a int was expected"),
        ({1: 2}, dict[str, int], "a key of (all) is 1, and a str was expected"),
        ((1,), tuple[int, str], "(all) is a tuple, and a tuple of 2 was expected"),
        ([1], tuple[int, ...], "(all) is a list, and a tuple was expected"),
        ("x", Literal["norm", "value"], "(all) is 'x', and 'norm' or 'value' was expected"),
        ((1, "x"), list[int] | tuple[int, int], "[1] is 'x', and a int was expected"),
        ((1,), list[int] | tuple[int, int], "(all) is a tuple, and a tuple of 2 was expected"),
        ({1: "a"}, dict[str, str] | None, "a key of (all) is 1, and a str was expected"),
        (torch.zeros(1, device="meta"), torch.Tensor, "(all) is a tensor without data, and a Tensor was expected"),
        ([True], tuple[int] | PAIR, "(all) is a list, and a tuple or list of 2 of type bool was expected"),
        ([True, 1], PAIR, "(all) is a list, and a list of 2 of type bool was expected"),
        ({}, Inner, "there is no count"),
        ({"count": 1, "names": [None]}, Inner, "names[0] is None, and a str was expected"),
        ({"x": {"count": "y"}}, dict[str, Inner | None], "x.count is 'y', and a count was expected"),
        (torch.zeros(3), Scalar, "(all) is a Tensor, and a tensor with 0 dimensions or float was expected"),
        (10**20, float, "(all) is 100000000000000000000, and a float was expected"),
        ([], Inner, "(all) is a list, and a dict was expected"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(value: Any, expected: Any, told: str) -> None:
    assert mismatch(value, expected) == told


class Owner:
    loaded: Any = None

    @takes(Inner)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.loaded = state


class Heir(Owner):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state["inner"])


def test_a_state_is_refused_ahead_of_its_owner() -> None:
    owner = Owner()
    with pytest.raises(StateError, match="there is no count"):
        owner.load_state_dict({})
    assert owner.loaded is None
    owner.load_state_dict({"count": 1})
    assert owner.loaded == {"count": 1}


def test_who_inherits_may_save_more_around_it() -> None:
    Heir().load_state_dict({"inner": {"count": 1}})
    with pytest.raises(StateError, match="count is 'x'"):
        Heir().load_state_dict({"inner": {"count": "x"}})


def test_what_stands_in_many_places_is_looked_at_once() -> None:
    class Counted(AtLeast):
        looks = 0

        def fits(self, value: Any) -> bool:
            Counted.looks += 1
            return super().fits(value)

    value: Any = [1]
    expected: Any = list[Annotated[int, Counted(-7)]]
    for _ in range(12):  # two to the power of twelve places
        value, expected = [value, value], list[expected]
    assert mismatch(value, expected) == ""
    assert Counted.looks == 1


def test_one_object_may_fit_in_one_place_and_not_in_another() -> None:
    both = [1]
    assert mismatch((both, both), tuple[list[int], list[str]]) == "[1][0] is 1, and a str was expected"
    assert mismatch([both, ["x"]], list[list[int]]) == "[1][0] is 'x', and a int was expected"
