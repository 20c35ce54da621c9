"""What hyperparameters were before a checkpoint held them as plain values, so that they come back as the same.

A description says of a value, and of what is in it, which type it had: one of the few below, since nothing in a file is
ever imported by its name. The class of an enum is the one that the constructor itself names.
"""

from __future__ import annotations

import enum
import inspect
import sys
import typing
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainkit.module.attribute_dict import AttributeDict

Description = dict[str, Any]
"""``type``, ``items`` by their keys or indices, and ``factory`` of a defaultdict; empty for what is plain anyway."""

_FACTORIES: dict[str, Callable[[], Any] | None] = {
    "None": None,
    **{kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict, set)},
}
_MADE_OF_DICT: dict[str, Callable[[dict[Any, Any]], Any]] = {
    "OrderedDict": OrderedDict,
    "Counter": Counter,
    "Namespace": lambda values: Namespace(**values) if all(isinstance(name, str) for name in values) else values,
    "AttributeDict": AttributeDict,
}


def describe(value: Any, plain: Any) -> Description:
    """Return what `restore` needs to make ``value`` of ``plain``, which a checkpoint holds for it."""
    if is_omegaconf(value):
        return read_by_attribute(plain)
    pairs: Iterable[tuple[Any, tuple[Any, Any]]] = ()
    if isinstance(plain, dict):
        values = vars(value) if isinstance(value, Namespace) else value
        # Keys may have been converted, and are in the same order.
        pairs = zip(plain, zip((values[key] for key in values), plain.values(), strict=True), strict=True)
    elif type(plain) in (list, tuple):
        pairs = enumerate(zip(value, plain, strict=True))
    return describe_outside(value) | _inside((key, describe(*both)) for key, both in pairs)


def restore(plain: Any, described: Description) -> Any:
    """Return what ``plain`` was, by its description. What does not fit it stays as it is."""
    inside, kind = described.get("items", {}), described.get("type")
    if type(plain) is dict:
        values = {key: restore(item, inside.get(key, {})) for key, item in plain.items()}
        if kind == "defaultdict":
            return defaultdict(_FACTORIES.get(described.get("factory", "None")), values)
        return _MADE_OF_DICT[kind](values) if kind in _MADE_OF_DICT else values
    if type(plain) in (list, tuple):
        return type(plain)(restore(item, inside.get(index, {})) for index, item in enumerate(plain))
    if kind == "frozenset" and isinstance(plain, set):
        return frozenset(plain)
    return Path(plain) if kind == "Path" and isinstance(plain, str) else plain


def describe_outside(value: Any) -> Description:
    """Return the description of ``value`` without that of what is in it."""
    kind = type(value)
    if kind is defaultdict:
        return {"type": "defaultdict", "factory": getattr(value.default_factory, "__name__", "None")}
    if kind in (OrderedDict, Counter, Namespace, frozenset):
        return {"type": kind.__name__}
    if isinstance(value, Path):
        return {"type": "Path"}
    # Any other mapping, such as a configuration, may be read by attribute.
    return {"type": "AttributeDict"} if kind is not dict and isinstance(value, Mapping | Namespace) else {}


def is_omegaconf(value: Any) -> bool:
    """Return whether ``value`` is a container of OmegaConf."""
    # Not imported for the question: a value of its types exists only if somebody has imported it.
    omegaconf = sys.modules.get("omegaconf")
    return omegaconf is not None and omegaconf.OmegaConf.is_config(value)


def read_by_attribute(plain: Any) -> Description:
    """Return the description by which all dicts in ``plain`` come back as `AttributeDict`."""
    if isinstance(plain, dict):
        return {"type": "AttributeDict"} | _inside((key, read_by_attribute(item)) for key, item in plain.items())
    items = enumerate(plain) if type(plain) in (list, tuple) else ()
    return _inside((index, read_by_attribute(item)) for index, item in items)


def _inside(described: Iterable[tuple[Any, Description]]) -> Description:
    items = {key: each for key, each in described if each}
    return {"items": items} if items else {}


def has_known_factory(value: defaultdict[Any, Any]) -> bool:
    """Return whether `restore` can give a defaultdict its factory back."""
    return value.default_factory in _FACTORIES.values()


def describe_enum(cls: type, name: str, value: Any) -> list[str] | None:
    """Return what names ``value``, an argument ``name`` of ``cls``, if it is of an enum that the constructor names."""
    # A combination of flags has no name of its own.
    if isinstance(value, enum.Enum) and value.name in type(value).__members__ and type(value) in _enums_of(cls, name):
        return [type(value).__qualname__, value.name]
    return None


def restore_enum(cls: type, name: str, described: list[str]) -> enum.Enum | None:
    """Return the member that `describe_enum` described; None if the constructor does not name it any more."""
    for kind in _enums_of(cls, name):
        for name in kind.__members__:
            if described == [kind.__qualname__, name]:
                return kind[name]
    return None


def _enums_of(cls: type, name: str) -> list[type[enum.Enum]]:
    """Return the enums that the annotation or the default of an argument names, in ``cls`` or a class above it."""
    found: list[type[enum.Enum]] = []
    for owner in cls.__mro__:
        init = vars(owner).get("__init__")
        if init is None or name not in inspect.signature(init).parameters:
            continue
        try:
            annotation = typing.get_type_hints(init).get(name)
        # Of another argument, perhaps: any name in a string that is not there at runtime.
        except Exception:
            annotation = None
        named = [type(inspect.signature(init).parameters[name].default), *_parts(annotation)]
        found += [kind for kind in named if isinstance(kind, type) and issubclass(kind, enum.Enum)]
    return found


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in typing.get_args(annotation):
        yield from _parts(part)
