"""What plugins ask of their order, held against the order in which they are called.

A plugin may name others ahead of which, or behind which, it has to be called: ``runs_before = ("Clip",)``,
``runs_after = ("Clip",)``. That moves nothing. The order is that of stages and lists, as anybody can read it; one that
a plugin cannot work in is an error when the second of the two is registered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import pluggy

from trainkit.errors import ConfigError, PluginError
from trainkit.hooks.attribution import described
from trainkit.hooks.unbindable import owner_name

ASKING = ("runs_before", "runs_after")

Asks = Mapping[str, tuple[str, ...]]
"""By attribute, the plugins that it names."""


class Member(Protocol):
    """A registered plugin, as far as its order is concerned."""

    name: str
    plugin: object
    stage: Any
    hooks: set[str]
    asks: Asks


def asks_of(plugin: object) -> Asks:
    """Return the names in ``runs_before`` and ``runs_after`` of a plugin, as far as it has these.

    Raises:
        ConfigError: If they are no names.
    """
    asks = {attribute: getattr(plugin, attribute, ()) for attribute in ASKING}
    for attribute, names in asks.items():
        if (
            isinstance(names, str)
            or not isinstance(names, Sequence)
            or not all(isinstance(each, str) for each in names)
        ):
            raise ConfigError(
                f"{owner_name(plugin)}.{attribute}={names!r} is not usable. Allowed: names of plugins, as in ('Clip',)."
            )
    return {attribute: tuple(names) for attribute, names in asks.items() if names}


def check_order(members: Collection[Member], calls: Callable[[str], list[pluggy.HookImpl]]) -> None:
    """Raise `PluginError` if a plugin is called ahead of one that it has to be behind, or the other way round.

    Args:
        members: All that are registered.
        calls: ``(hook) -> its implementations``, in the order of their calls.
    """
    for one in members:
        for attribute in one.asks:  # seldom any
            for other in members:
                if other is not one and _asks(one, attribute, other):
                    _check_pair(one, other, attribute, calls)


def _asks(one: Member, attribute: str, other: Member) -> bool:
    return not {other.name, owner_name(other.plugin)}.isdisjoint(one.asks.get(attribute, ()))


def _check_pair(one: Member, other: Member, attribute: str, calls: Callable[[str], list[pluggy.HookImpl]]) -> None:
    for hook in sorted(one.hooks & other.hooks):
        order = [impl.plugin for impl in calls(hook) if impl.plugin in (one, other)]
        if order[0] is not (one if attribute == "runs_before" else other):
            asked, found = ("before", "after") if attribute == "runs_before" else ("after", "before")
            raise PluginError(
                f"{described(one.plugin)} has to be called {asked} {described(other.plugin)}, and is called {found} it "
                f"in {hook}.\n"
                f"    asked by     {owner_name(one.plugin)}.{attribute} = {one.asks[attribute]!r}\n"
                f"    to do        {_remedy(one, other, attribute)}"
            )


def _remedy(one: Member, other: Member, attribute: str) -> str:
    if _asks(other, attribute, one):
        return f"leave out one of them: {other.name} asks for the opposite, so no order suits both"
    if one.stage != other.stage:
        return (
            f"give one of them another stage: that of {one.name} is {one.stage!r}, that of {other.name} is "
            f"{other.stage!r}"
        )
    first, second = (one, other) if attribute == "runs_before" else (other, one)
    return f"list {first.name} ahead of {second.name}; what has tryfirst, trylast or wrapper is called as that says"
