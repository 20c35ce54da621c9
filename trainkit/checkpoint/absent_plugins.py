"""The states of plugins that a run does not have: kept as they are, for a run that has them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from trainkit.checkpoint.origins import Origins, is_same_package, origin_of
from trainkit.checkpoint.state import collect_plugins, free_key, keyed
from trainkit.output import warn
from trainkit.storage.layout import Origin


class Absent(NamedTuple):
    """A state without a plugin.

    Attributes:
        state: The state, as it was in the checkpoint.
        origin: Whose it is; None if that is not known.
    """

    state: Any
    origin: Origin | None


def keep_absent(left: Iterable[str], states: Mapping[str, Any], origins: Origins) -> dict[str, Absent]:
    """Return what of ``states`` is to be kept, by the keys that are ``left``, and tell whose plugins are missing."""
    kept = {key: Absent(states[key], origins.get(key)) for key in left}
    missing = sorted(
        f"{each.origin['class']} ({each.origin['package']} {each.origin['version']})"
        for each in kept.values()
        if each.origin is not None and is_told_if_missing(each.origin)
    )
    if missing:
        warn(
            f"the checkpoint has states of plugins that are not in this run: {', '.join(missing)}. They stay as they "
            "are in the checkpoints that this run saves, for a run that has the plugins again."
        )
    return kept


def is_told_if_missing(origin: Origin) -> bool:
    """Whether a missing plugin is one of an installed package. Whoever leaves out another one knows it by its name."""
    return origin["package"] not in ("", "trainkit")


def states_of_all(
    plugins: Iterable[tuple[str, Any]], absent: Mapping[str, Absent]
) -> tuple[dict[str, Any], dict[str, Origin]]:
    """Return the states of plugins and those that are kept for others, and whose they are, both by their keys."""
    plugins = list(plugins)
    states = collect_plugins(plugins, absent)
    origins = {key: origin_of(plugin) for key, _, plugin in keyed(plugins, absent) if key in states}
    own = dict(origins)
    for key, each in absent.items():
        if key in own:
            if _may_be_same(own[key], each.origin):
                continue  # its plugin was added since
            key = free_key(key, {*states, *absent})
        states[key], origins[key] = each
    return states, {key: origin for key, origin in origins.items() if origin is not None}


def _may_be_same(plugin: Origin | None, kept: Origin | None) -> bool:
    return plugin is None or kept is None or is_same_package(plugin, kept)
