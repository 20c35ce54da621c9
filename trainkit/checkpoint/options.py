"""Whether saved arguments of optimizers and schedulers are of the types that torch has annotated."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from trainkit.checkpoint.arguments import CYCLE_OPTIONS, attributes_of_arguments
from trainkit.storage.schema import Scalar, mismatch
from trainkit.storage.tensors import bounds, misformed, wrong_number
from trainkit.storage.walk import place_of_entry, walk

_RATES = ("initial_lr", *CYCLE_OPTIONS)


def argument_types(owner: object) -> dict[str, Any]:
    """Return the arguments with which an optimizer or scheduler is made, and of which types they are."""
    return _annotated(type(owner).__init__)


def wrong_in_options(owner: Any, options: Mapping[str, Any], own: Mapping[str, Any], place: str) -> Iterator[str]:
    """Yield what is wrong with the ``options`` of a file, as far as the code's ``own`` ones are as annotated."""
    kinds = dict.fromkeys(_RATES, Scalar) | argument_types(owner)
    # Schedulers keep some under other names.
    kinds |= {kept: kinds[name] for name, kept in attributes_of_arguments(type(owner), own).items() if name in kinds}
    for name in kinds.keys() & options.keys():
        value, below = _as_tuple(options[name]), place_of_entry(name, place)
        own_value = _as_tuple(own.get(name, value))
        if name not in own or not mismatch(own_value, kinds[name]):
            yield mismatch(value, kinds[name], below)
        yield from _wrong_in_numbers(value, own_value, below, may_be_negative=name in ("lr", *_RATES))


def _wrong_in_numbers(value: Any, own: Any, place: str, *, may_be_negative: bool) -> Iterator[str]:
    """Compare numbers with those of the code; rates may have been led below 0 by a schedule."""
    is_usual = is_finite(own) and value is not own
    for below, leaf in walk(value, place):
        if isinstance(leaf, Tensor):
            is_own = isinstance(own, Tensor) and own is not value
            yield misformed(leaf, own.shape, own.dtype, below) if is_own else wrong_number(leaf, below)
        if is_usual and not is_finite(leaf):
            yield f"{below} is {float(leaf)}"
        if is_usual and not may_be_negative and is_negative(leaf) and not is_negative(own):
            yield f"{below} is {float(leaf)}, and that of the code is not below 0"


def is_negative(value: Any) -> bool:
    """Return whether any number in a value is below 0."""
    return any(bounds(number)[0] < 0 for number in _numbers(value))


def is_finite(value: Any) -> bool:
    """Return whether all numbers in a value are finite."""
    return all(math.isfinite(bound) for number in _numbers(value) for bound in bounds(number))


@cache  # finding types costs more than all else here, where there are many parameter groups
def _annotated(make: Any) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for name, hint in inspect.get_annotations(make).items():
        with suppress(NameError):  # torch imports some types for type checkers only
            hints |= typing.get_type_hints(SimpleNamespace(__annotations__={name: hint}), make.__globals__)
    return {name: hint for name, hint in hints.items() if name not in ("params", "return")}


def _numbers(value: Any) -> Iterator[Tensor | float]:
    return (leaf for _, leaf in walk(value) if isinstance(leaf, int | float | Tensor))


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # a configuration knows no tuples
