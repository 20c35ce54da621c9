from __future__ import annotations

import math

import pytest
import torch

from trainkit.testing import TinyModule, assert_same_state, assert_same_weights


def test_equal_modules_pass_and_the_smallest_difference_is_named():
    one, other = TinyModule(), TinyModule()
    assert_same_weights(one, other)
    with torch.no_grad():
        other.layer.bias[1] = torch.nextafter(other.layer.bias[1], torch.tensor(9.0))
    with pytest.raises(AssertionError, match=r"layer\.bias"):
        assert_same_weights(one, other)
    assert_same_weights(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("actual", "expected", "where"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, r"\['a'\]\[1\]\['b'\]: 2 is not 3"),
        ({"a": 1}, {"a": 1, "b": 2}, "keys"),
        ([1], [1, 2], "length 1 is not 2"),
        (1.0, torch.tensor(1.0), "no tensor"),
        ({"a": torch.zeros(2)}, {"a": torch.zeros(3)}, r"\['a'\]"),
        ({"a": torch.zeros(2)}, {"a": torch.zeros(2, dtype=torch.float64)}, r"\['a'\]"),
    ],
)
def test_the_first_difference_in_a_nested_state_is_named(actual, expected, where):
    with pytest.raises(AssertionError, match=where):
        assert_same_state(actual, expected)


def test_nan_equals_nan():
    assert_same_state({"a": math.nan, "b": torch.tensor(math.nan)}, {"a": math.nan, "b": torch.tensor(math.nan)})
