from __future__ import annotations

from collections import OrderedDict
from typing import Any, NotRequired, TypedDict

import pytest
import torch

from trainkit.storage.schema import Count, mismatch


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
        (torch.zeros(1), torch.Tensor | float),
        ({"count": 3, "more": object()}, Inner),
        (object(), Any),
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
        ("x", int | None, "(all) is 'x', and a int or None was expected"),
        ({"a": [1, "b"]}, dict[str, list[int]], "a[1] is 'b', and a int was expected"),
        ({1: 2}, dict[str, int], "a key of (all) is 1, and a str was expected"),
        ((1,), tuple[int, str], "(all) is a tuple, and a tuple of 2 was expected"),
        ([1], tuple[int, ...], "(all) is a list, and a tuple was expected"),
        ((1, "x"), list[int] | tuple[int, int], "[1] is 'x', and a int was expected"),
        ((1,), list[int] | tuple[int, int], "(all) is a tuple, and a tuple of 2 was expected"),
        ({1: "a"}, dict[str, str] | None, "a key of (all) is 1, and a str was expected"),
        (torch.zeros(1, device="meta"), torch.Tensor, "(all) is a tensor without data, and a Tensor was expected"),
        ({}, Inner, "there is no count"),
        ({"count": 1, "names": [None]}, Inner, "names[0] is None, and a str was expected"),
        ({"x": {"count": "y"}}, dict[str, Inner | None], "x.count is 'y', and a count was expected"),
        ([], Inner, "(all) is a list, and a dict was expected"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(value: Any, expected: Any, told: str) -> None:
    assert mismatch(value, expected) == told
