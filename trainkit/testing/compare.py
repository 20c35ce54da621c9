"""Comparisons of states and weights. A failure names the first entry that differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def assert_same_weights(actual: nn.Module, expected: nn.Module, *, atol: float = 0.0) -> None:
    """Raise AssertionError unless all parameters and buffers of two modules are equal; by default bit for bit.

    Args:
        actual: The module that is being tested.
        expected: The module it should equal.
        atol: The largest difference that is allowed between two values.
    """
    assert_same_state(actual.state_dict(), expected.state_dict(), atol=atol)


def assert_same_state(actual: Any, expected: Any, *, atol: float = 0.0, where: str = "") -> None:
    """Raise AssertionError unless two nested states, such as two ``state_dict()``, are equal.

    Args:
        actual: The state that is being tested.
        expected: The state it should equal.
        atol: The largest difference that is allowed between two tensor values.
        where: The name of the state in the message, such as ``"optimizer"``.
    """
    if isinstance(expected, Tensor):
        assert isinstance(actual, Tensor), f"{where or 'value'}: {actual!r} is no tensor"
        _assert_same_tensor(actual, expected, atol, where)
    # Abstract types: an OrderedDict equals a dict and a tuple a list, as far as a state is concerned.
    elif isinstance(expected, Mapping):
        assert isinstance(actual, Mapping), f"{where or 'value'}: {actual!r} is no mapping"
        assert actual.keys() == expected.keys(), f"{where or 'value'}: keys {list(actual)} are not {list(expected)}"
        for key, value in expected.items():
            assert_same_state(actual[key], value, atol=atol, where=f"{where}[{key!r}]")
    elif isinstance(expected, Sequence) and not isinstance(expected, str | bytes):
        assert len(actual) == len(expected), f"{where or 'value'}: length {len(actual)} is not {len(expected)}"
        for index, value in enumerate(expected):
            assert_same_state(actual[index], value, atol=atol, where=f"{where}[{index}]")
    else:
        # A NaN equals nothing, not even itself.
        same = actual == expected or (actual != actual and expected != expected)
        assert same, f"{where or 'value'}: {actual!r} is not {expected!r}"


def _assert_same_tensor(actual: Tensor, expected: Tensor, atol: float, where: str) -> None:
    torch.testing.assert_close(
        actual,
        expected,
        rtol=0.0,
        atol=atol,
        equal_nan=True,
        msg=lambda difference: f"{where or 'tensor'}: {difference}",
    )
