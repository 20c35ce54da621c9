from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Protocol, TypedDict, TypeVar, Union

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainkit.config.values import convert


class Color(Enum):
    RED = 1


class Shape(TypedDict):
    a: int


class Sized(Protocol):
    def size(self) -> int: ...


T = TypeVar("T")


@pytest.mark.parametrize(
    ("value", "annotation", "converted"),
    [
        (3, int, 3),
        (3, float, 3.0),
        (3, float | int, 3),
        (3, float | None, 3.0),
        ({"a": 1}, Shape, {"a": 1}),
        (3, Sized, 3),
        (0.5, int | float, 0.5),
        (None, Optional[int], None),  # noqa: UP045
        (None, None, None),
        ("a", Union[int, str], "a"),  # noqa: UP007
        ("fast", Literal["fast", "slow"], "fast"),
        (3, Annotated[int, "positive"], 3),
        ([1, 2], list[int], [1, 2]),
        ([1, 2], Sequence[float], [1, 2]),
        ([1, 2], list, [1, 2]),
        ([1, 2], tuple[int, int], (1, 2)),
        ([1, 2, 3], tuple[int, ...], (1, 2, 3)),
        ([1, "a"], tuple, (1, "a")),
        (["a", "a"], set[str], {"a"}),
        ({"a": [1, 2]}, dict[str, tuple[int, int]], {"a": (1, 2)}),
        ({0: 1, 4: 2}, int | Mapping[int, int], {0: 1, 4: 2}),
        ("data", Path, Path("data")),
        ("data", str | Path, "data"),
        ("RED", Color, Color.RED),
        (torch.relu, Callable[[torch.Tensor], torch.Tensor], torch.relu),
        ("anything", Any, "anything"),
        ("anything", "NameOnlyForTypeCheckers", "anything"),
        ("anything", T, "anything"),
    ],
)
def test_value_fits(value: Any, annotation: Any, converted: Any) -> None:
    assert convert(value, annotation) == converted
    assert type(convert(value, annotation)) is type(converted)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ("3", int),
        (True, int),
        (True, float),
        (1, bool),
        (3.0, int),
        (None, int),
        ("medium", Literal["fast", "slow"]),
        (True, Literal[1]),
        ("ab", list[str]),
        (["a"], list[int]),
        ([1, 2, 3], tuple[int, int]),
        (3, tuple[int, ...]),
        ([1], dict[str, int]),
        ({"a": "b"}, dict[str, int]),
        ("GREEN", Color),
        ("relu", Callable[[torch.Tensor], torch.Tensor]),
        ("Linear", torch.nn.Module),
        ("a", int | float | None),
        (10**400, float),
    ],
)
def test_value_does_not_fit(value: Any, annotation: Any) -> None:
    with pytest.raises(TypeError):
        convert(value, annotation)


def test_whole_numbers_become_floats_within_everything() -> None:
    converted = convert({"a": [1, [2]]}, dict[str, tuple[float, list[float]]])

    assert repr(converted) == "{'a': (1.0, [2.0])}"


@given(st.lists(st.integers() | st.text()))
def test_tuple_of_a_list_keeps_every_item(items: list[int | str]) -> None:
    assert convert(items, tuple[int | str, ...]) == tuple(items)
