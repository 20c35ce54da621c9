"""Converts a value from a file to the type that a parameter's annotation asks for."""

from __future__ import annotations

import collections.abc
import sys
import types
from enum import Enum
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

_LISTS = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_SCALARS = (bool, int, float, str, bytes, types.NoneType)


def convert(value: Any, annotation: Any) -> Any:
    """Return ``value`` converted to what ``annotation`` asks for.

    YAML has no tuples, sets, paths and enums: they are made of lists and strings. It reads 1 as a whole number, which
    becomes a float where one is asked for. An annotation of a form that is not known here accepts every value.

    Raises:
        TypeError: If the value does not fit.
    """
    if annotation is None:
        annotation = types.NoneType
    form, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if form is Annotated:
        return convert(value, arguments[0])
    if form in (Union, types.UnionType):
        return _convert_to_one_of(value, arguments)
    if form is Literal:
        # By type too: to Python ``True == 1``, and a choice of 1 would accept true.
        return _accept_if(any(value == choice and type(value) is type(choice) for choice in arguments), value)
    if form in _LISTS:
        return [convert(item, *arguments) if arguments else item for item in _accept_if(isinstance(value, list), value)]
    if form in (tuple, set, frozenset):
        return _convert_to_tuple_or_set(value, form, arguments)
    if form in _MAPPINGS:
        return _convert_mapping(value, arguments)
    if form is collections.abc.Callable:
        return _accept_if(callable(value), value)
    if form in (Any, object, Parameter.empty) or isinstance(form, str | TypeVar) or not isinstance(form, type):
        return value
    return _convert_to_class(value, form)


def _accept_if(fits: bool, value: Any) -> Any:
    # Without a message: `call` writes it, with the key and the whole annotation.
    if not fits:
        raise TypeError
    return value


def _convert_to_one_of(value: Any, annotations: tuple[Any, ...]) -> Any:
    # A whole number stays one where it may, in any order: to ``limit_val_batches: float | int`` 1 is not 1.0.
    if type(value) is int and int in annotations:
        return value
    # In the order written: ``str | Path`` keeps a string, ``Path | str`` makes a path of it.
    for annotation in annotations:
        try:
            return convert(value, annotation)
        except TypeError:
            continue
    raise TypeError


def _convert_to_tuple_or_set(value: Any, form: type, arguments: tuple[Any, ...]) -> Any:
    items = _accept_if(isinstance(value, list), value)
    # ``set[int]`` and ``tuple[int, ...]`` have one annotation for all items, ``tuple[int, str]`` one for each.
    if form is not tuple or arguments[1:] == (...,):
        arguments = arguments[:1] * len(items)
    if arguments and len(arguments) != len(items):
        raise TypeError
    return form(map(convert, items, arguments) if arguments else items)


def _convert_mapping(value: Any, arguments: tuple[Any, ...]) -> Any:
    mapping = _accept_if(isinstance(value, dict), value)
    if len(arguments) != 2:
        return mapping
    return {convert(key, arguments[0]): convert(item, arguments[1]) for key, item in mapping.items()}


def _convert_to_class(value: Any, kind: type) -> Any:
    if kind is float and type(value) is int:
        # To torch a whole number is no float: a tensor of it would have another dtype.
        return float(_accept_if(abs(value) <= sys.float_info.max, value))
    if kind in _SCALARS:
        # A bool is an int to Python, and a slip in a configuration.
        return _accept_if(type(value) is kind, value)
    if isinstance(value, str) and issubclass(kind, Path):
        return kind(value)
    if isinstance(value, str) and issubclass(kind, Enum) and value in kind.__members__:
        return kind[value]
    try:
        fits = isinstance(value, kind)
    except TypeError:  # most protocols, and a TypedDict: only a type checker can tell
        return value
    return _accept_if(fits, value)
