"""Converts a value from a file to the type that a parameter's annotation asks for."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import sys
import types
import typing
from collections.abc import Callable
from enum import Enum
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Protocol, Required, TypeVar, Union, get_args, get_origin

import torch

from trainkit.checks import seconds
from trainkit.errors import ConfigError

_LISTS = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_SCALARS = (bool, int, float, str, bytes, types.NoneType)


class Maker(Protocol):
    """What makes objects of a value, and knows where it was written."""

    def make(self, kind: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """Return ``kind(**arguments)``, the arguments checked and converted."""

    def find(self, name: str, expected: str, is_expected: Callable[[Any], bool]) -> Any:
        """Return the object with a dotted name, which has to be as expected."""


def convert(value: Any, annotation: Any, maker: Maker | None = None) -> Any:
    """Return ``value`` converted to what ``annotation`` asks for.

    YAML has no tuples, sets, paths, dates and enums: they are made of lists and strings; dataclasses, named tuples and
    the like of mappings; classes, functions and dtypes are found by their names. It reads 1 as a whole number, which
    becomes a float where one is asked for. An annotation of a form that is not known here accepts every value.

    Args:
        value: The value.
        annotation: The annotation, as an object.
        maker: Makes objects and finds names. Without one, neither is done.

    Raises:
        TypeError: If the value does not fit.
        ConfigError: If it is to be an object, and that cannot be made or found.
    """
    if annotation is None:
        annotation = types.NoneType
    form, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if form in (Annotated, Required, NotRequired):
        return convert(value, arguments[0], maker)
    if form in (Union, types.UnionType):
        return _convert_to_one_of(value, arguments, maker)
    if form is Literal:
        # By type too: to Python ``True == 1``, and a choice of 1 would accept true.
        return _accept_if(any(value == choice and type(value) is type(choice) for choice in arguments), value)
    if form in _LISTS:
        items = _accept_if(isinstance(value, list), value)
        return [convert(item, arguments[0], maker) for item in items] if arguments else items
    if form in (tuple, set, frozenset):
        return _convert_to_tuple_or_set(value, form, arguments, maker)
    if form in _MAPPINGS:
        return _convert_mapping(value, arguments, maker)
    if form is collections.abc.Callable:
        if isinstance(value, str) and maker is not None:
            return maker.find(_dotted(value), "something to call", callable)
        return _accept_if(callable(value), value)
    if form is type:
        return _convert_to_type(value, arguments, maker)
    if typing.is_typeddict(form):
        return _convert_to_typed_dict(value, form, maker)
    if form in (Any, object, Parameter.empty) or isinstance(form, str | TypeVar) or not isinstance(form, type):
        return value
    return _convert_to_class(value, form, maker)


def choices_of(annotation: Any) -> list[str]:
    """Return the names of the members of the enums in ``annotation``, which a message has to list."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return list(annotation.__members__)
    return [name for part in get_args(annotation) for name in choices_of(part)]


def _accept_if(fits: bool, value: Any) -> Any:
    # Without a message: `call` writes it, with the key and the whole annotation.
    if not fits:
        raise TypeError
    return value


def _dotted(name: str) -> str:
    return str(_accept_if("." in name, name))


def _convert_to_one_of(value: Any, annotations: tuple[Any, ...], maker: Maker | None) -> Any:
    # A whole number stays one where it may, in any order: to ``limit_val_batches: float | int`` 1 is not 1.0.
    if type(value) is int and int in annotations:
        return value
    refusal: ConfigError | None = None
    # In the order written: ``str | Path`` keeps a string, ``Path | str`` makes a path of it.
    for annotation in annotations:
        try:
            return convert(value, annotation, maker)
        except ConfigError as error:  # what it says, which may be a TypeError too, is more than that it does not fit
            refusal = refusal or error
        except TypeError:
            continue
    raise refusal or TypeError()


def _convert_to_tuple_or_set(value: Any, form: type, arguments: tuple[Any, ...], maker: Maker | None) -> Any:
    items = _accept_if(isinstance(value, list), value)
    # ``set[int]`` and ``tuple[int, ...]`` have one annotation for all items, ``tuple[int, str]`` one for each.
    if form is not tuple or arguments[1:] == (...,):
        arguments = arguments[:1] * len(items)
    if arguments and len(arguments) != len(items):
        raise TypeError
    if not arguments:
        return form(items)
    return form(convert(item, annotation, maker) for item, annotation in zip(items, arguments, strict=True))


def _convert_mapping(value: Any, arguments: tuple[Any, ...], maker: Maker | None) -> Any:
    mapping = _accept_if(isinstance(value, dict), value)
    if len(arguments) != 2:
        return mapping
    return {convert(key, arguments[0], maker): convert(item, arguments[1], maker) for key, item in mapping.items()}


def _convert_to_type(value: Any, arguments: tuple[Any, ...], maker: Maker | None) -> Any:
    bases = tuple(each for part in arguments for each in get_args(part) or (part,) if isinstance(each, type))

    def is_expected(found: Any) -> bool:
        return isinstance(found, type) and (not bases or issubclass(found, bases))

    if isinstance(value, str) and maker is not None:
        names = " or ".join(each.__name__ for each in bases)
        return maker.find(_dotted(value), f"a subclass of {names}" if bases else "a class", is_expected)
    return _accept_if(is_expected(value), value)


def _convert_to_typed_dict(value: Any, form: Any, maker: Maker | None) -> Any:
    mapping = _accept_if(isinstance(value, dict), value)
    hints = typing.get_type_hints(form, include_extras=True)
    # Of annotations that are kept as texts the class does not know which may be missing.
    required = {key for key in form.__required_keys__ if get_origin(hints[key]) is not NotRequired}
    required |= {key for key, hint in hints.items() if get_origin(hint) is Required}
    _accept_if(required <= mapping.keys() <= hints.keys(), value)
    return {key: convert(item, hints[key], maker) for key, item in mapping.items()}


def _convert_to_class(value: Any, kind: type, maker: Maker | None) -> Any:
    if kind is float and type(value) is int:
        # To torch a whole number is no float: a tensor of it would have another dtype.
        return float(_accept_if(abs(value) <= sys.float_info.max, value))
    if kind in _SCALARS:
        # A bool is an int to Python, and a slip in a configuration.
        return _accept_if(type(value) is kind, value)
    if issubclass(kind, Enum):
        return _convert_to_enum(value, kind)
    if isinstance(value, dict) and maker is not None and (dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")):
        return maker.make(kind, value)
    if isinstance(value, list) and issubclass(kind, tuple):
        return _convert_to_named_tuple(value, kind, maker)
    made = _made_of_text(value, kind)
    if made is not None:
        return made
    try:
        fits = isinstance(value, kind)
    except TypeError:  # most protocols: only a type checker can tell
        return value
    return _accept_if(fits, value)


def _convert_to_enum(value: Any, kind: type[Enum]) -> Any:
    """Return the member with a name, or else the one with a value."""
    if isinstance(value, kind):
        return value
    if isinstance(value, str) and value in kind.__members__:
        return kind[value]
    # By type too, as True is 1 to Python.
    found = [member for member in kind if member.value == value and type(member.value) is type(value)]
    _accept_if(bool(found), value)
    return found[0]


def _convert_to_named_tuple(value: list[Any], kind: Any, maker: Maker | None) -> Any:
    if not hasattr(kind, "_fields"):
        return kind(value)  # such as torch.Size
    _accept_if(len(value) <= len(kind._fields), value)
    given = dict(zip(kind._fields, value, strict=False))
    return maker.make(kind, given) if maker is not None else kind(**given)


def _made_of_text(value: Any, kind: type) -> Any:
    """Return what is written as a text, or as a number, in YAML; None if ``kind`` is not such."""
    try:
        if kind is datetime.timedelta and isinstance(value, str | dict | int | float) and type(value) is not bool:
            return datetime.timedelta(seconds=value if isinstance(value, int | float) else seconds("", value))
        if not isinstance(value, str):
            return None
        if issubclass(kind, Path):
            return kind(value)
        if kind in (datetime.date, datetime.datetime, datetime.time):
            return kind.fromisoformat(value)
        if kind is torch.device:
            return torch.device(value)
        if kind is torch.dtype:
            found = getattr(torch, value.removeprefix("torch."), None)
            return found if isinstance(found, torch.dtype) else None
    # What each of them says, without the key.
    except (ValueError, RuntimeError, ConfigError) as error:
        raise TypeError from error
    return None
