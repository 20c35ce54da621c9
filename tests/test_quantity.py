from __future__ import annotations

from decimal import Decimal

import pytest

from trainkit.quantity import QuantityError, read_quantity

UNITS = ("steps", "samples", "min", "h")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500 steps", "500"),
        ("1.5 steps", "1.5"),
        ("1.1k steps", "1100"),
        ("2K steps", "2000"),
        ("3 M steps", "3000000"),
        ("4B steps", "4000000000"),
        (" 1_000 steps ", "1000"),
    ],
)
def test_a_number_and_its_unit_are_read(text: str, size: str) -> None:
    assert read_quantity(text, UNITS) == (Decimal(size), "steps")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("-5 steps", r"is negative\."),
        ("10,000 samples", r"has a comma\. Did you mean '10_000 samples'\?"),
        ("1,000,000 samples", r"has a comma\. Did you mean '1_000_000 samples'\?"),
        ("1,5h", r"has a comma\. Did you mean '1\.5h'\?"),
        ("1e4 samples", r"has an exponent\. Did you mean '10000 samples'\?"),
        ("1.5E+3 samples", r"has an exponent\. Did you mean '1500 samples'\?"),
        ("1e999999999 samples", r"is no number with a unit\."),
        ("30m", r"has the unit 'm', which there is not\. Did you mean '30 min'\?"),
        ("2 hrs", r"Did you mean '2 h'\?"),
        ("5k updates", r"Did you mean '5k steps'\?"),
        ("5 smaples", r"Did you mean '5 samples'\?"),
        ("5 Steps", r"Did you mean '5 steps'\?"),
        ("50%", r"has the unit '%', which there is not\.$"),
        ("1k tokens", r"counts tokens, .* Say steps or samples"),
        ("5", r"has no unit\. Is it '5 steps'\?"),
        ("5M", r"has no unit\. Is it '5M steps'\?"),
        ("h", r"has no number\. Did you mean '1 h'\?"),
        ("5 steps or so", r"is no number with a unit\."),
        ("", r"is no number with a unit\."),
    ],
)
def test_of_any_other_text_it_is_told_what_is_wrong(wrong: str, message: str) -> None:
    with pytest.raises(QuantityError, match=f"^{message}" if message.startswith(("is", "has", "counts")) else message):
        read_quantity(wrong, UNITS)


def test_a_unit_is_proposed_where_there_is_it() -> None:
    with pytest.raises(QuantityError, match=r"which there is not\.$"):
        read_quantity("5 updates", ("h",))
