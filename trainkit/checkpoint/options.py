"""Whether saved arguments of optimizers and schedulers are of the types that torch has annotated."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from trainkit.checkpoint.arguments import CYCLE_OPTIONS, attributes_of_arguments
from trainkit.storage.schema import Scalar, mismatch
from trainkit.storage.tensors import bounds, wrong_number
from trainkit.storage.walk import place_of_entry, walk

_RATES = ("initial_lr", *CYCLE_OPTIONS)


def argument_types(owner: Any) -> dict[str, Any]:
    """Return the arguments with which an optimizer or scheduler is made, and of which types they are."""
    make = owner.__init__
    hints: dict[str, Any] = {}
    for name, hint in inspect.get_annotations(make).items():
        with suppress(NameError):  # torch imports some types for type checkers only
            hints |= typing.get_type_hints(SimpleNamespace(__annotations__={name: hint}), make.__globals__)
    return {name: hint for name, hint in hints.items() if name not in ("params", "return")}


def wrong_in_options(owner: Any, options: Mapping[str, Any], own: Mapping[str, Any], place: str) -> Iterator[str]:
    """Yield what is wrong with the ``options`` of a file, as far as the code's ``own`` ones are as annotated."""
    kinds = dict.fromkeys(_RATES, Scalar) | argument_types(owner)
    # Schedulers keep some under other names.
    kinds |= {kept: kinds[name] for name, kept in attributes_of_arguments(type(owner), own).items() if name in kinds}
    for name in kinds.keys() & options.keys():
        value, below = _as_tuple(options[name]), place_of_entry(name, place)
        if not mismatch(_as_tuple(own.get(name, value)), kinds[name]):
            yield mismatch(value, kinds[name], below)
        if name in own and not is_finite(own[name]):
            continue
        for inner, leaf in walk(value, below):
            if isinstance(leaf, Tensor) and leaf.numel() != 1:
                yield f"{inner} has {leaf.numel()} numbers in place of one"
            if isinstance(leaf, Tensor):
                yield wrong_number(leaf.reshape(()), inner)
            if not is_finite(leaf):
                yield f"{inner} is {float(leaf)}"


def is_finite(value: Any) -> bool:
    """Return whether all numbers in a value are finite."""
    numbers = (leaf for _, leaf in walk(value) if isinstance(leaf, int | float | Tensor))
    return all(math.isfinite(bound) for number in numbers for bound in bounds(number))


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # a configuration knows no tuples
