"""What the table of other values leaves out: plugins of which a warning tells, and those whose states were kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from trainkit.checkpoint.absent_plugins import is_told_if_missing
from trainkit.checkpoint.changes import Rows
from trainkit.checkpoint.origins import Origins
from trainkit.checkpoint.state import find_owners
from trainkit.storage.layout import Origin


def without_told_elsewhere(
    before: Rows, now: Rows, plugins: Iterable[tuple[str, Any]], states: Mapping[str, Any], origins: Origins
) -> tuple[Rows, Rows]:
    """Return what a run was made with and what the code gives, without the rows of such plugins.

    Args:
        before: What the run was made with.
        now: What the code gives.
        plugins: The plugins by their names.
        states: The states in the checkpoint, by their keys.
        origins: By the same keys, whose states they are.
    """
    plugins = list(plugins)
    owners = find_owners(plugins, states, origins)
    having = {id(member.plugin) for member, _ in owners}
    left = states.keys() - {key for _, key in owners}
    missing = {key: origins[key] for key in left if key in origins and is_told_if_missing(origins[key])}
    given = {id(plugin): name for name, plugin in plugins}
    before = _by_their_names_now(before, {key: given[id(member.plugin)] for member, key in owners}, missing)
    # A run that did not have them has kept their states, and has no rows of them.
    back = [(name, plugin) for name, plugin in plugins if id(plugin) in having and f"callbacks.{name}" not in before]
    gone = {each["class"] for each in missing.values()}
    names = {f"callbacks.{name}" for name, _ in back}
    modules = {f"version.{type(plugin).__module__.partition('.')[0]}" for _, plugin in back}
    return (
        _without(
            before, now, lambda name: before[name] in gone, lambda name: _is_of(name, before[name], missing.values())
        ),
        _without(now, before, names.__contains__, modules.__contains__),
    )


def _by_their_names_now(before: Rows, names: Mapping[str, str], missing: Collection[str]) -> Rows:
    """Return ``before`` with plugins by the names that they have now, as namesakes are numbered by their order.

    Args:
        before: What the run was made with.
        names: The names of plugins now, by the keys of their states: the names that they had, if they had no other key.
        missing: Keys of the states of those that are told of elsewhere.
    """
    lost = {f"callbacks.{key}" for key in missing}
    moved = {f"callbacks.{key}": f"callbacks.{name}" for key, name in names.items()}
    free = {*moved, *lost}
    rows: Rows = {}
    for name, value in before.items():
        place = ".".join(name.split(".")[:2])
        now = moved.get(place, place)
        if place not in lost:
            rows[(now if now in free or now not in before else place) + name.removeprefix(place)] = value
    return rows


def _without(
    rows: Rows, others: Collection[str], is_plugin: Callable[[str], bool], is_package: Callable[[str], bool]
) -> Rows:
    """Return ``rows`` without those plugins and versions of packages that the other side does not have either."""
    alone = [name for name in rows if name not in others]
    places = [name for name in alone if name.startswith("callbacks.") and name.count(".") == 1 and is_plugin(name)]
    below = tuple(f"{place}." for place in places)
    dropped = {name for name in alone if name.startswith("version.") and is_package(name)}
    return {
        name: value
        for name, value in rows.items()
        if name not in places and name not in dropped and not name.startswith(below)
    }


def _is_of(name: str, version: Any, missing: Iterable[Origin]) -> bool:
    """Whether a version is that of a package of which a plugin is missing; the name of its module may be another."""
    module = name.removeprefix("version.").replace("_", "-").lower()
    return any(version == each["version"] or module == each["package"].replace("_", "-").lower() for each in missing)
