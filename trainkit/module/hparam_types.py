"""Hyperparameters as the plain values that a checkpoint holds, and of which types they were, to come back as the same.

A description says of a value, and of what is in it, which type it had: one of `KINDS`, since nothing in a file is ever
imported by its name. The class of an enum is the one that the constructor itself names.
"""

from __future__ import annotations

import enum
import inspect
import os
import sys
import typing
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from trainkit.checks import is_numpy_scalar
from trainkit.module.attribute_dict import AttributeDict

Description = dict[str, Any]
"""``type``, ``items`` by their keys or indices, and ``factory`` of a defaultdict; empty for what is plain anyway."""


class Kind(NamedTuple):
    """A type that is held as a plain one.

    Attributes:
        original: The type, by whose name a description calls it.
        plain: The type of what a checkpoint holds for it.
        make: Makes the one of the other.
    """

    original: type
    plain: type
    make: Callable[[Any], Any]


def _namespace(values: dict[Any, Any]) -> Any:
    """Return a Namespace of ``values``, unless a name is none, as in a file that is made up."""
    return Namespace(**values) if all(isinstance(name, str) for name in values) else values


KINDS = {
    kind.original.__name__: kind
    for kind in (
        Kind(OrderedDict, dict, OrderedDict),
        Kind(Counter, dict, Counter),
        Kind(Namespace, dict, _namespace),
        Kind(AttributeDict, dict, AttributeDict),
        Kind(frozenset, set, frozenset),
        Kind(Path, str, Path),
    )
}
"""The types that come back, by name; and a defaultdict, if its factory is one of `_FACTORIES`."""

_FACTORIES: dict[str, Callable[[], Any] | None] = {
    "None": None,
    **{kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict, set)},
}

# Types that ``torch.load(weights_only=True)`` loads unchanged. It refuses their subclasses, such as enums and numpy's
# float64, so types are compared and not asked by `isinstance`. Which values of them it refuses is asked by `storable`.
_SAFE_TYPES = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)


class NotStorableError(Exception):
    """A value that a checkpoint cannot hold."""


def as_plain(value: Any) -> Any:
    """Return ``value`` converted to types that load safely.

    Raises:
        NotStorableError: If that is not possible.
    """
    if type(value) in _SAFE_TYPES or isinstance(value, torch.Tensor):
        return value
    if is_omegaconf(value):
        from omegaconf import OmegaConf

        return as_plain(OmegaConf.to_container(value, resolve=True))
    if isinstance(value, Namespace):
        return as_plain(vars(value))
    if isinstance(value, defaultdict) and value.default_factory not in _FACTORIES.values():
        raise NotStorableError("a defaultdict of a function")
    if isinstance(value, Mapping):
        return {as_plain(key): as_plain(item) for key, item in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(as_plain(item) for item in value)
    if type(value) is frozenset:
        return {as_plain(item) for item in value}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if is_numpy_scalar(value):
        return value.item()
    raise NotStorableError(type(value).__name__)


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
    inside, name = described.get("items", {}), described.get("type", "")
    if type(plain) is dict:
        plain = {key: restore(item, inside.get(key, {})) for key, item in plain.items()}
        if name == "defaultdict":
            return defaultdict(_FACTORIES.get(described.get("factory", "None")), plain)
    elif type(plain) in (list, tuple):
        plain = type(plain)(restore(item, inside.get(index, {})) for index, item in enumerate(plain))
    kind = KINDS.get(name)
    return plain if kind is None or type(plain) is not kind.plain else kind.make(plain)


def describe_outside(value: Any) -> Description:
    """Return the description of ``value`` without that of what is in it."""
    if type(value) is defaultdict:
        return {"type": "defaultdict", "factory": getattr(value.default_factory, "__name__", "None")}
    for name, kind in KINDS.items():
        # A Path is of a class for the operating system.
        if type(value) is kind.original or (kind.original is Path and isinstance(value, Path)):
            return {"type": name}
    # Any other mapping, such as a configuration, may be read by attribute.
    return {"type": "AttributeDict"} if type(value) is not dict and isinstance(value, Mapping | Namespace) else {}


def joined(one: Description, other: Description) -> Description:
    """Return what two descriptions of one value say together; where both name a type, ``other`` is right."""
    in_one, in_other = one.get("items", {}), other.get("items", {})
    inside = _inside((key, joined(in_one.get(key, {}), in_other.get(key, {}))) for key in {**in_one, **in_other})
    return {**one, **other, **inside}


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
