"""Quantities as users write them: a number, thousands or more of them, and a unit, as in ``"10k samples"``."""

from __future__ import annotations

import re
from collections.abc import Collection
from decimal import Decimal
from typing import NamedTuple

from trainkit.errors import nearest_name

_QUANTITY = re.compile(r"(-?)(\d+(?:_\d+)*(?:\.\d+)?)\s*([kKMB](?![A-Za-z]))?\s*([^\d\s]*)", re.ASCII)
_WITH_EXPONENT = re.compile(r"(\d+(?:\.\d+)?[eE]\+?\d\d?)(?!\d)(.*)", re.ASCII)
_MULTIPLES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9}
_MEANT = {
    **dict.fromkeys(("updates", "iterations", "iters", "it"), "steps"),
    **dict.fromkeys(("m", "mins"), "min"),
    **dict.fromkeys(("hr", "hrs"), "h"),
}
"""Units that there are not, and that are spelled unlike those that are meant."""


class Quantity(NamedTuple):
    """A number of something.

    Attributes:
        size: How many. Not a float, in which 1.1 thousand is no whole number.
        unit: Of what.
    """

    size: Decimal
    unit: str


class QuantityError(ValueError):
    """A text that says no quantity. Tells what is wrong, such as "is negative.", and what may have been meant."""


def read_quantity(text: str, units: Collection[str]) -> Quantity:
    """Return the quantity that ``text`` says.

    Args:
        text: Such as ``"10k samples"``.
        units: The units that there are, the most usual one first.

    Raises:
        QuantityError: If it is none.
    """
    text = text.strip()
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise QuantityError(_what_is_wrong(text, units))
    sign, number, multiple, unit = found.groups(default="")
    if sign:
        raise QuantityError("is negative.")
    if unit not in units:
        raise QuantityError(_what_is_wrong_with_unit(number + multiple, unit, units))
    return Quantity(Decimal(number.replace("_", "")) * _MULTIPLES[multiple], unit)


def _what_is_wrong(text: str, units: Collection[str]) -> str:
    if text in units:
        return f"has no number. Did you mean '1 {text}'?"
    if exponent := _WITH_EXPONENT.fullmatch(text):
        return f"has an exponent. Did you mean '{Decimal(exponent[1]):f}{exponent[2]}'?"
    without_commas = re.sub(r",(?=\d{3}(?!\d))", "_", text).replace(",", ".")
    if without_commas != text and _QUANTITY.fullmatch(without_commas):
        return f"has a comma. Did you mean {without_commas!r}?"
    return "is no number with a unit."


def _what_is_wrong_with_unit(number: str, unit: str, units: Collection[str]) -> str:
    if not unit:
        return f"has no unit. Is it '{number} {next(iter(units))}'?"
    if unit in ("token", "tokens"):
        return (
            f"counts {unit}, of which nobody knows how many a batch has. Say steps or samples, by the tokens of each."
        )
    meant = _MEANT[unit] if _MEANT.get(unit) in units else nearest_name(unit, units)
    return f"has the unit {unit!r}, which there is not." + (f" Did you mean '{number} {meant}'?" if meant else "")
