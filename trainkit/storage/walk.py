"""Walking through nested values, such as a checkpoint; each leaf comes with its place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from trainkit.printable import printable

_MOST_IN_A_CONTAINER = 1000
"""A longer list or dict of an object holds data, in which nobody looks for its parts."""

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""Attributes in which torch keeps what ``named_modules`` gives."""


def place_of_entry(key: Any, place: str) -> str:
    """Return the place of an entry of the mapping at ``place``: ``place.key``, or ``place[key]`` if no string.

    It is text of one line, whatever the key is.
    """
    if not isinstance(key, str):
        try:
            return f"{place}[{printable(repr(key))}]"
        except Exception:  # the place is for a message, which may be of this very key
            return f"{place}[a {type(key).__name__}]"
    return f"{place}.{printable(key)}" if place else printable(key)


def walk(
    value: Any,
    place: str = "",
    *,
    enters: Callable[[Any], bool] = lambda value: isinstance(value, Mapping | list | tuple),
    with_keys: bool = False,
    place_of: Callable[[Any, str], str] = place_of_entry,
) -> Iterator[tuple[str, Any]]:
    """Yield each leaf at any depth of ``value`` with its place, such as ``optimizers[0].state[1].step``.

    Args:
        value: What to walk through.
        place: Where ``value`` itself is.
        enters: Whether to go on into a mapping or iterable; what is not entered is a leaf.
        with_keys: Whether keys of mappings are walked through too. Their places begin with ``the key``.
        place_of: Gives the place of a mapping's entry from its key and the place of the mapping.
    """
    # A stack of iterators instead of recursion: from nested generators, each leaf would pass through all levels above.
    pending = [iter([(place, value)])]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
        elif enters(entry[1]):
            pending.append(_entries(entry[1], entry[0], with_keys, place_of))
        else:
            yield entry


def walk_attributes(owner: object, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what attributes of ``owner`` hold on their own or in plain containers, at any depth, with its place.

    Left out is in what torch keeps the parts of a module, which ``named_modules`` gives. A container that is met again,
    and one that holds data, is a leaf.
    """
    # As a list, here and below, which is made at once: threads of the owner's may add to it meanwhile.
    own = list(getattr(owner, "__dict__", {}).items())
    attributes = {key: value for key, value in own if key not in _OF_EVERY_MODULE}
    seen: set[int] = set()

    def enters(value: Any) -> bool:
        if value is attributes:
            return True
        if not isinstance(value, dict | list | tuple) or id(value) in seen or len(value) > _MOST_IN_A_CONTAINER:
            return False
        seen.add(id(value))  # a container may hold itself
        return True

    yield from walk(attributes, place, enters=enters)


def _entries(
    container: Any, place: str, with_keys: bool, place_of: Callable[[Any, str], str]
) -> Iterator[tuple[str, Any]]:
    """Yield the entries of one container, each with its place."""
    if not isinstance(container, Mapping):
        for index, item in enumerate(container):
            yield f"{place}[{index}]", item
        return
    for key, item in list(container.items()):
        below = place_of(key, place)
        if with_keys:
            yield f"the key {below}", key
        yield below, item


def replaced(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Return ``value`` with ``function`` applied to each tensor in it, at any depth of dicts, lists and tuples.

    A container in which nothing changes is returned itself, and one in several places is changed once.
    """
    return _replaced(value, function, {})


def _replaced(value: Any, function: Callable[[Tensor], Any], seen: dict[int, tuple[Any, Any]]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if not isinstance(value, dict) and type(value) not in (list, tuple):
        return value
    if id(value) in seen:
        return seen[id(value)][1]
    seen[id(value)] = value, value  # one that holds itself stays as it is
    if isinstance(value, dict):
        changed = {key: new for key, old in value.items() if (new := _replaced(old, function, seen)) is not old}
        made = copy.copy(value) if changed else value
        made.update(changed)
    else:
        items = [_replaced(each, function, seen) for each in value]
        is_same = all(new is old for new, old in zip(items, value, strict=True))
        made = value if is_same else type(value)(items)
    seen[id(value)] = value, made
    return made
