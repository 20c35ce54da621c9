"""Applying a function to the tensors in a batch of any nesting."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, MutableMapping, MutableSequence
from typing import Any

from torch import Tensor

_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Types that hold nothing and cannot move: the cheapest question, so it is asked first."""


def map_leaves(function: Callable[[Any], Any], value: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """Apply ``function`` to every tensor and every object with a ``to`` method, at any depth of ``value``.

    Lists, tuples, named tuples, mappings and dataclasses are walked through; other objects stay as they are. A
    container in which nothing changed is returned itself, so identity tells whether anything was done. Nothing is
    changed in place.

    Args:
        function: Takes a leaf and returns what comes in its place.
        value: What to walk through.
        is_leaf: Whether ``function`` takes a container as a whole; None walks through all of them.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    # Before containers: a PackedSequence is a tuple, a BatchEncoding a mapping, and both know how to move themselves. A
    # class has its method `to` too, and cannot move.
    if isinstance(value, Tensor) or (callable(getattr(value, "to", None)) and not isinstance(value, type)):
        return function(value)
    if is_leaf is not None and is_leaf(value):
        return function(value)
    if isinstance(value, tuple):
        items = [map_leaves(function, item, is_leaf) for item in value]
        if _same(items, value):
            return value
        return kind(*items) if hasattr(value, "_fields") else kind(items)
    if isinstance(value, MutableMapping):
        return _copy_with(value, {key: map_leaves(function, item, is_leaf) for key, item in value.items()})
    if isinstance(value, MutableSequence) and not isinstance(value, bytearray):
        return _copy_with(value, {index: map_leaves(function, item, is_leaf) for index, item in enumerate(value)})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _replace_fields(value, function, is_leaf)
    return value


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Apply ``function`` to every tensor at any depth of ``value``; see `map_leaves`."""
    return map_leaves(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, value)


def _same(items: list[Any], container: tuple[Any, ...]) -> bool:
    # By identity: == of tensors gives tensors.
    return all(new is old for new, old in zip(items, container, strict=True))


def _copy_with(container: Any, items: dict[Any, Any]) -> Any:
    """Return ``container`` if it holds ``items`` already, else a copy that does: a defaultdict stays one."""
    changed = {key: item for key, item in items.items() if item is not container[key]}
    if not changed:
        return container
    # Copied and changed, not built from its type, whose constructor may take anything.
    clone = copy.copy(container)
    for key, item in changed.items():
        clone[key] = item
    return clone


def _replace_fields(value: Any, function: Callable[[Any], Any], is_leaf: Callable[[Any], bool] | None) -> Any:
    """Return a dataclass instance with ``function`` applied to its fields: itself if nothing changed."""
    # hasattr(): a field with init=False may have no value yet.
    old = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if hasattr(value, field.name)}
    changed = {name: new for name, item in old.items() if (new := map_leaves(function, item, is_leaf)) is not item}
    if not changed:
        return value
    # Not dataclasses.replace(), which calls __init__ and __post_init__ again.
    clone = copy.copy(value)
    for name, item in changed.items():
        object.__setattr__(clone, name, item)  # also where the dataclass is frozen
    return clone
