"""Walking through nested values, such as a checkpoint; each leaf comes with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def place_of_entry(key: Any, place: str) -> str:
    """Return the place of an entry of the mapping at ``place``: ``place.key``, or ``place[key]`` if no string."""
    if not isinstance(key, str):
        return f"{place}[{key!r}]"
    return f"{place}.{key}" if place else key


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


def _entries(
    container: Any, place: str, with_keys: bool, place_of: Callable[[Any, str], str]
) -> Iterator[tuple[str, Any]]:
    """Yield the entries of one container, each with its place."""
    if not isinstance(container, Mapping):
        for index, item in enumerate(container):
            yield f"{place}[{index}]", item
        return
    for key, item in container.items():
        below = place_of(key, place)
        if with_keys:
            yield f"the key {below}", key
        yield below, item
