from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch

from trainkit.checkpoint.diff import differences

NAN = float("nan")


def told(first: Any, second: Any) -> list[str]:
    return [str(difference) for difference in differences(first, second)]


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, (2.0, None), "x"], 3: {True, False}},
        OrderedDict(weight=torch.tensor([1.0, NAN]), empty=torch.zeros(0, 3), bit=torch.tensor(True)),
        NAN,
        torch.zeros(2, dtype=torch.bfloat16),
        torch.zeros(3, 2).T,
    ],
)
def test_equal_states_have_none(value: Any) -> None:
    again = value.clone() if isinstance(value, torch.Tensor) else value
    assert told(value, again) == []


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ["a.b[1]: 2 and 3"]),
        ({"a": 1, 2: 0}, {"b": 1, 2: 1}, ["a: only in the first", "[2]: 0 and 1", "b: only in the second"]),
        ([1], [1, 2], ["(all): [1] and [1, 2]"]),
        (1, True, ["(all): 1 and True"]),
        (1, 1.0, ["(all): 1 and 1.0"]),
        (torch.zeros(2), torch.zeros(3), ["(all): float32[2] and float32[3]"]),
        (torch.zeros(2), torch.zeros(2).double(), ["(all): float32[2] and float64[2]"]),
        (torch.zeros(4), torch.tensor([0, 1.5, 0, -2]), ["(all): 2 of 4 values differ, by at most 2"]),
        (torch.tensor(0), torch.tensor(3), ["(all): 0 and 3"]),
        (torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [-0.0, 0.0]]), ["(all): 1 of 4 values differ, by at most 0"]),
        ({"a": torch.zeros(2)}, {"a": None}, ["a: a tensor of shape [2] and None"]),
        ("x" * 99, "y", [f"(all): '{'x' * 59}... and 'y'"]),
    ],
)
def test_differences_are_told_with_their_places(first: Any, second: Any, expected: list[str]) -> None:
    assert told(first, second) == expected
