from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.config.yaml_loader import parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("010", "010"),
        ("1:00:00", "1:00:00"),
        ("12:30", "12:30"),
        ("2026-11-28", "2026-11-28"),
        ("0", 0),
        ("-12", -12),
        ("+3", 3),
        ("0x1f", 31),
        ("0o17", 15),
        ("0b101", 5),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("1.5E-3", 0.0015),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", -math.inf),
        ("1e", "1e"),
        ("e3", "e3"),
        ("1.2.3", "1.2.3"),
        ("null", None),
        ("~", None),
        ("yes", True),
        ("'010'", "010"),
        ("!!int '12'", 12),
        ("{a: 1, b: [2, x]}", {"a": 1, "b": [2, "x"]}),
        ("{<<: {a: 1}, b: 2}", {"a": 1, "b": 2}),
    ],
)
def test_what_a_text_stands_for(text: str, expected: Any) -> None:
    found = parse(text)
    assert found == expected and type(found) is type(expected)


@given(st.integers(-(10**30), 10**30) | st.floats(allow_nan=False))
def test_numbers_as_python_writes_them_are_numbers(number: float) -> None:
    text = repr(number).replace("inf", ".inf")
    assert parse(text) == number and type(parse(text)) is type(number)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{a: 1, a: 2}", "found duplicate key a"),
        ("!!int maybe", "'maybe' is no whole number"),
        ("[1", "expected"),
        ("a: &x [*x]", "holds itself"),
        ("{lr: ${a.b}}", "put .* into quotes where it is within braces or brackets: .* in line 1"),
    ],
)
def test_what_is_no_value_is_told_in_words(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse(text)
