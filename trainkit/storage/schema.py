"""Whether a value that was read from a file has the types that a program expects of it.

What is expected is written as annotations: plain types, ``list[int]``, ``X | None``, a ``Literal``, a ``TypedDict``.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NotRequired,
    TypedDict,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import torch
from torch import Tensor

from trainkit.errors import StateError
from trainkit.storage.sharded.place_holder import SavedTensor
from trainkit.storage.walk import place_of_entry

Owner = TypeVar("Owner")

_Fitting = set[tuple[int, int]]
"""The containers that were found to be as expected, and the annotations of that, by their ids."""

_UNIONS = (Union, types.UnionType)
_MOST = 2**53
"""The largest number that a counter can have reached: at one per nanosecond it takes a hundred days."""


class AtLeast(NamedTuple):
    """Bounds for whole numbers, as in ``Annotated[int, AtLeast(0)]``."""

    bound: int
    most: int = _MOST

    @property
    def words(self) -> str:
        """What is expected, for messages."""
        kind = f"a whole number of at least {self.bound}" if self.bound else "a count"
        return kind if self.most == _MOST else f"{kind}{' and' if self.bound else ''} up to {self.most}"

    def fits(self, value: Any) -> bool:
        """Return whether ``value`` is as expected."""
        return type(value) is int and self.bound <= value <= self.most


class Like(NamedTuple):
    """The form of a tensor, as in ``Annotated[Tensor, Like(1, torch.uint8)]``."""

    ndim: int
    dtype: torch.dtype | None = None

    @property
    def words(self) -> str:
        """What is expected, for messages."""
        kind = "" if self.dtype is None else f" of {self.dtype}"
        return f"a tensor{kind} with {self.ndim} dimensions"

    def fits(self, value: Any) -> bool:
        """Return whether ``value`` is as expected."""
        is_dense = _is_of(value, Tensor) and value.layout is torch.strided and not value.is_nested
        return is_dense and value.ndim == self.ndim and self.dtype in (None, value.dtype)


class Exactly(NamedTuple):
    """A list of a fixed length, as in ``Annotated[list[bool], Exactly(2, bool)]``."""

    length: int
    kind: Any

    @property
    def words(self) -> str:
        """What is expected, for messages."""
        return f"a list of {self.length} of type {_name(self.kind)}"

    def fits(self, value: Any) -> bool:
        """Return whether ``value`` is as expected."""
        is_so_long = isinstance(value, list) and len(value) == self.length
        return is_so_long and not any(mismatch(each, self.kind) for each in value)


Count = Annotated[int, AtLeast(0)]
"""A whole number, not below 0."""

Scalar = Annotated[Tensor, Like(0)] | float
"""A number, or a tensor of shape ()."""


def mismatch(value: Any, expected: Any, place: str = "") -> str:
    """Return what is wrong with ``value``, with its place; empty if it is as ``expected``.

    An int is taken for a float. Of a ``TypedDict`` further keys are allowed, as later versions may have more.

    >>> mismatch({"lr": [0.1, "x"]}, dict[str, list[float]])
    "lr[1] is 'x', and a float was expected"

    Args:
        value: What was read.
        expected: An annotation.
        place: Where ``value`` itself is.
    """
    return _mismatch(value, expected, place, set())


def takes(expected: Any) -> Callable[[Callable[[Owner, Any], None]], Callable[[Owner, Any], None]]:
    """Have a ``load_state_dict(self, state)`` refuse a state that is not as ``expected``, before it changes anything.

    A file may hold any state: whoever made it need not have been this class.

    Args:
        expected: What is annotated for `mismatch`; most often a ``TypedDict``.
    """

    def decorate(load: Callable[[Owner, Any], None]) -> Callable[[Owner, Any], None]:
        @wraps(load)
        def checked(self: Owner, state: Any) -> None:
            if wrong := mismatch(state, expected):
                raise StateError(wrong)
            load(self, state)

        return checked

    return decorate


@cache  # there are few of them, and each is met often
def _taken_apart(expected: Any) -> tuple[Any, tuple[Any, ...]]:
    return (TypedDict, ()) if is_typeddict(expected) else (get_origin(expected), get_args(expected))


def _mismatch(value: Any, expected: Any, place: str, fitting: _Fitting) -> str:
    """Do what `mismatch` does; look at a container that stands in several places once."""
    if expected is Any:
        return ""
    origin, arguments = _taken_apart(expected)
    if origin in _UNIONS:
        return _in_union(value, expected, place, fitting)
    if origin is Annotated:
        return "" if arguments[1].fits(value) else _wrong(value, arguments[1].words, place)
    if origin is Literal:
        fits = type(value) in (str, int) and value in arguments
        return "" if fits else _wrong(value, " or ".join(map(repr, arguments)), place)
    if origin not in (TypedDict, list, tuple, dict):
        return "" if _is_of(value, expected) else _wrong(value, f"a {_name(expected)}", place)
    # Those who hold both are alive meanwhile, so that no other object has the number of one.
    both = id(value), id(expected)
    if both in fitting:
        return ""
    if origin is TypedDict:
        wrong = _in_typed_dict(value, expected, place, fitting)
    elif origin is dict:
        wrong = _in_dict(value, arguments, place, fitting)
    else:
        wrong = _in_sequence(value, origin, arguments, place, fitting)
    if not wrong:
        fitting.add(both)
    return wrong


def _is_of(value: Any, expected: Any) -> bool:
    if expected in (None, type(None)):
        return value is None
    if expected is float:
        # A whole number that is too large for one is none.
        return type(value) is float or (type(value) is int and abs(value) <= _MOST)
    if expected is Tensor:
        # One without data fits nowhere: it loads into nothing.
        return isinstance(value, SavedTensor) or (isinstance(value, Tensor) and not value.is_meta)
    # By exact type: True is an int to isinstance. But a dict may be an OrderedDict.
    return type(value) is expected or (expected is dict and isinstance(value, dict))


def _in_union(value: Any, expected: Any, place: str, fitting: _Fitting) -> str:
    kinds = get_args(expected)
    found = [_mismatch(value, kind, place, fitting) for kind in kinds]
    if not all(found):
        return ""
    # Where it is the right container, what is wrong in it says more than that none fits.
    within = [wrong for kind, wrong in zip(kinds, found, strict=True) if _is_container(value, kind)]
    return within[0] if within else _wrong(value, f"a {' or '.join(map(_name, kinds))}", place)


def _is_container(value: Any, kind: Any) -> bool:
    container = Mapping if is_typeddict(kind) else get_origin(kind)
    return container in (Mapping, dict, list, tuple) and isinstance(value, container)


def _in_sequence(value: Any, origin: Any, arguments: tuple[Any, ...], place: str, fitting: _Fitting) -> str:
    if not isinstance(value, origin):
        return _wrong(value, f"a {origin.__name__}", place)
    if origin is tuple and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            return _wrong(value, f"a tuple of {len(arguments)}", place)
        kinds: Any = arguments
    else:
        kinds = (arguments[0],) * len(value)
    for index, (each, kind) in enumerate(zip(value, kinds, strict=True)):
        if found := _mismatch(each, kind, f"{place}[{index}]", fitting):
            return found
    return ""


def _in_dict(value: Any, arguments: tuple[Any, ...], place: str, fitting: _Fitting) -> str:
    if not isinstance(value, dict):
        return _wrong(value, "a dict", place)
    key_kind, kind = arguments
    for key, each in value.items():
        found = _mismatch(key, key_kind, f"a key of {place or '(all)'}", fitting)
        if found := found or _mismatch(each, kind, place_of_entry(key, place), fitting):
            return found
    return ""


def _in_typed_dict(value: Any, expected: Any, place: str, fitting: _Fitting) -> str:
    if not isinstance(value, Mapping):
        return _wrong(value, "a dict", place)
    for key, (kind, is_required) in _entries(expected).items():
        below = place_of_entry(key, place)
        if key in value:
            if found := _mismatch(value[key], kind, below, fitting):
                return found
        elif is_required:
            return f"there is no {below}"
    return ""


@cache
def _entries(expected: Any) -> dict[str, tuple[Any, bool]]:
    """Return the entries of a ``TypedDict``: what is expected, and whether it has to be there."""
    # Not `__required_keys__` alone, which do not know of NotRequired where annotations are strings.
    required = expected.__required_keys__
    return {
        key: (get_args(kind)[0], False) if get_origin(kind) is NotRequired else (kind, key in required)
        for key, kind in get_type_hints(expected, include_extras=True).items()
    }


def _wrong(value: Any, expected: str, place: str) -> str:
    shown = f"a {type(value).__name__}" if isinstance(value, Tensor | Mapping | list | tuple | set) else repr(value)
    if isinstance(value, Tensor) and value.is_meta:
        shown = "a tensor without data"
    return f"{place or '(all)'} is {shown[:80]}, and {expected} was expected"


def _name(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        return str(get_args(kind)[1].words.removeprefix("a "))
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    return "None" if kind in (None, type(None)) else getattr(get_origin(kind) or kind, "__name__", str(kind))
