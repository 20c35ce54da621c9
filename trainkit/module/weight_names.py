"""Names of weights with and without what wraps a module: ``_orig_mod.net.weight`` and ``net.weight`` are one weight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from typing import Any

# The attributes in which torch.compile, DataParallel and its like, FSDP and activation checkpointing keep a module.
_WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def translated(saved: Iterable[str], own: Iterable[str]) -> dict[str, str]:
    """Return for names that differ by wrappers alone, on either side, those of the module.

    Args:
        saved: Names in a file.
        own: Names in a module.

    Returns:
        The module's name for each of the saved names that it does not have, where there is one and no other could be
        meant.
    """
    saved, own = dict.fromkeys(saved), dict.fromkeys(own)
    if saved.keys() <= own.keys():
        return {}
    # One that is around all of them is taken off alone: "module" may be the name of a layer too.
    shortened, places = _unique(saved, _without(_around(saved))), _unique(own, _without(_around(own)))
    if not shortened.keys() <= places.keys() or len(shortened) < len(saved):
        shortened, places = _unique(saved, _bare), _unique(own, _bare)
    names = {name: places[short] for short, name in shortened.items() if short in places}
    return {name: place for name, place in names.items() if name != place}


def named_as_in(own: Iterable[str], weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``weights`` under the names of a module, which are ``own``, as far as they differ by wrappers alone."""
    names = translated(weights, own)
    return {names.get(name, name): value for name, value in weights.items()}


def prefix_before(names: Iterable[str], others: Iterable[str]) -> str:
    """Return what stands before those of ``names`` that end like one of ``others``; "" if that is not one thing."""
    others = set(others)
    found = {name.removesuffix(end) for name in names for end in _ends(name) if end in others}
    return found.pop() if len(found) == 1 else ""


def wrappers_around(names: Iterable[str]) -> str:
    """Return what wrappers have put before all of ``names``, such as ``_orig_mod.``; "" if there are none."""
    names = list(names)
    count = _around(names)
    return "".join(f"{part}." for part in names[0].split(".")[:count]) if names else ""


def _unique(names: Iterable[str], shorten: Callable[[str], str]) -> dict[str, str]:
    """Return the names by what ``shorten`` makes of them, without those of which it makes the same."""
    found = defaultdict(list)
    for name in names:
        found[shorten(name)].append(name)
    return {short: same[0] for short, same in found.items() if len(same) == 1}


def _around(names: Iterable[str]) -> int:
    """Return how many wrappers there are around all of ``names``."""
    return min((sum(1 for _ in takewhile(_WRAPPERS.__contains__, name.split(".")[:-1])) for name in names), default=0)


def _without(wrappers: int) -> Callable[[str], str]:
    return lambda name: ".".join(name.split(".")[wrappers:])


def _bare(name: str) -> str:
    *path, last = name.split(".")
    return ".".join([part for part in path if part not in _WRAPPERS] + [last])


def _ends(name: str) -> list[str]:
    """Return what is behind each dot of ``name``."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(1, len(parts))]
