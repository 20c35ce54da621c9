"""The states of plugins in a checkpoint, what identifies it, and what a fit cannot go on without.

The keys and what they mean are in `trainkit.storage.layout`. `trainkit.trainer.run_state` puts a checkpoint together
and applies it; plugins may add to it in ``on_save_checkpoint``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import count
from typing import Any, NamedTuple

from torch import nn

import trainkit
from trainkit.checkpoint.origins import Origins, is_same_class, is_same_package, may_be_of, origin_of
from trainkit.errors import CheckpointError
from trainkit.output import warn
from trainkit.reflection import describe_arguments
from trainkit.storage.layout import FORMAT
from trainkit.storage.owners import given_to, state_of

LIGHTNING_VERSION = "pytorch-lightning_version"
"""The key for which Lightning looks before it loads weights, and by which a checkpoint that it wrote is known."""


def signature(module: nn.Module) -> dict[str, Any]:
    """Return the entries that identify a checkpoint of trainkit: format, version, and the class of the module."""
    return {"format": FORMAT, "version": trainkit.__version__, "module": type(module).__qualname__}


def collect_plugins(plugins: Iterable[tuple[str, Any]], absent: Collection[str] = ()) -> dict[str, Any]:
    """Return the state of every plugin that has one, by its key. None and an empty dict are left out.

    Any other state is kept as it is, whatever its type: whether that can be stored is found out where all of it is.

    Args:
        plugins: The plugins by their names.
        absent: Keys of states that are kept for plugins that are not there.
    """
    states = {key: state_of(plugin) for key, _, plugin in keyed(plugins, absent)}
    # By type: not all values say whether they are true, such as a tensor of several numbers.
    return {key: state for key, state in states.items() if state is not None and not _is_empty_dict(state)}


def _is_empty_dict(state: Any) -> bool:
    return isinstance(state, dict) and not state


def restore_plugins(
    plugins: Iterable[tuple[str, Any]], states: Mapping[str, Any], path: str, origins: Origins | None = None
) -> list[str]:
    """Restore the state of every plugin; return the keys of states that belong to no plugin of this run.

    A plugin without a state in the checkpoint is new in this run, and starts as it was made. The state of a plugin of
    one package is never given to one of another.

    Args:
        plugins: The plugins by their names.
        states: Their states by their keys.
        path: The file, for errors.
        origins: By the same keys, whose states they are, as far as that is known.

    Raises:
        CheckpointError: If the state of a plugin of trainkit is not as that plugin saves it.
    """
    left = list(states)
    for member, key in find_owners(plugins, states, origins or {}):
        with given_to(member.plugin, f"callbacks.{key}", path):
            _restore(member.plugin, states[key], key)
        left.remove(key)
    return left


class Keyed(NamedTuple):
    """A plugin that has a state.

    Attributes:
        key: Where its state is in a checkpoint of this run; no other plugin has this key.
        kind: Its ``state_key``, or the name of the plugin. Several may have the same.
        plugin: The plugin.
    """

    key: str
    kind: str
    plugin: Any


def keyed(plugins: Iterable[tuple[str, Any]], absent: Collection[str] = ()) -> list[Keyed]:
    """Return the plugins that have a state. Those of one kind are told apart by all arguments, then by a number.

    Args:
        plugins: The plugins by their names.
        absent: Keys of states that are kept for plugins that are not there: of one kind with these, one is not alone.
    """
    having = [(state_key(name, plugin), plugin) for name, plugin in plugins if has_state(plugin)]
    times = Counter(kind for kind, _ in having)
    found: dict[str, Keyed] = {}
    for kind, plugin in having:
        is_alone = times[kind] == 1 and not any(_is_of_kind(kind, key) for key in absent)
        key = free_key(kind if is_alone else _with_arguments(kind, plugin), found)
        found[key] = Keyed(key, kind, plugin)
    return list(found.values())


def free_key(key: str, taken: Collection[str]) -> str:
    """Return ``key``, with a number behind it if it is taken."""
    numbered = (key if number == 1 else f"{key} {number}" for number in count(1))
    return next(each for each in numbered if each not in taken)


def has_state(plugin: Any) -> bool:
    """Return whether a plugin has a state to be saved."""
    # The TrainModule is a plugin too; its weights are under ``state_dict`` already.
    return getattr(plugin, "state_dict", None) is not None and not isinstance(plugin, nn.Module)


def state_key(name: str, plugin: Any) -> str:
    """Return the plugin's ``state_key``, or its name: the key of its state if there is no other plugin of this kind."""
    return getattr(plugin, "state_key", None) or name


def _with_arguments(kind: str, plugin: Any) -> str:
    return f"{kind} ({describe_arguments(plugin)})"


def find_owners(plugins: Iterable[tuple[str, Any]], states: Iterable[str], origins: Origins) -> list[tuple[Keyed, str]]:
    """Return which plugin has which state, in the order of the plugins.

    Plugins of one name are of different packages, or of none, and what their names are numbered by is their order. So
    those look first that are of the same class and package as a state, then those whose class was renamed there, and
    then those for which the key decides alone. Of these again, those that are as they were look first: one whose
    arguments were changed takes what is left of its kind.

    Args:
        plugins: The plugins by their names.
        states: The keys of states.
        origins: By the same keys, whose states they are, as far as that is known.
    """
    members, left = keyed(plugins), list(states)
    own = {member.key: origin_of(member.plugin) if origins else None for member in members}
    found: dict[str, str] = {}
    for is_near, tests in (
        (is_same_class, (_has_own_key, _has_arguments, _is_of_own_kind, _is_of_class)),
        (is_same_package, (_has_own_key, _has_arguments, _is_of_own_kind, _is_renamed)),
        (may_be_of, (_has_key, _has_arguments, _is_alike, _is_of_class)),
    ):
        for is_it in tests:
            for member in (each for each in members if each.key not in found):
                near = (key for key in left if is_near(own[member.key], origins.get(key)))
                key = next((key for key in near if is_it(member, key, origins)), None)
                if key is not None:
                    found[member.key] = key
                    left.remove(key)
    return [(member, found[member.key]) for member in members if member.key in found]


def _has_own_key(member: Keyed, key: str, _: Origins) -> bool:
    return _has_own_kind(member) and member.kind == member.key == key


def _has_key(member: Keyed, key: str, _: Origins) -> bool:
    return key == member.key


def _has_arguments(member: Keyed, key: str, _: Origins) -> bool:
    # One that is alone now may have been one of several when it was saved. Of equal ones, the number goes by the order.
    given = _with_arguments(_unnumbered_kind(member), member.plugin)
    return re.fullmatch(rf"{re.escape(given)}( \d+)*", key) is not None


def _is_alike(member: Keyed, key: str, _: Origins) -> bool:
    return _is_of_kind(member.kind, key)


def _is_of_own_kind(member: Keyed, key: str, _: Origins) -> bool:
    return _has_own_kind(member) and _is_of_kind(member.kind, key)


def _is_of_kind(kind: str, key: str) -> bool:
    return key == kind or key.startswith(f"{kind} (")


def _is_of_class(member: Keyed, key: str, origins: Origins) -> bool:
    return key in origins and origins[key]["class"] == type(member.plugin).__qualname__


def _is_renamed(member: Keyed, key: str, origins: Origins) -> bool:
    """Whether the one is called by its ``state_key`` as the class of the other, whatever number that had."""
    return _unnumbered_kind(member) == origins[key]["class"] or _is_of_kind(type(member.plugin).__qualname__, key)


def _has_own_kind(member: Keyed) -> bool:
    """Whether the kind says more than the class does, which others of its class may not be."""
    return _unnumbered_kind(member) not in (type(member.plugin).__name__, type(member.plugin).__qualname__)


def _unnumbered_kind(member: Keyed) -> str:
    """Return the kind of a plugin, without the number that its name has beside others of that name."""
    name = type(member.plugin).__name__
    is_numbered = not getattr(member.plugin, "state_key", None) and re.fullmatch(rf"{re.escape(name)}-\d+", member.kind)
    return name if is_numbered else member.kind


def _restore(plugin: Any, state: Any, key: str) -> None:
    if getattr(plugin, "load_state_dict", None) is not None:
        plugin.load_state_dict(state)
        return
    warn(
        f"the checkpoint has a state of {key}, which begins anew all the same: {type(plugin).__qualname__} has a "
        "state_dict and no load_state_dict. Define load_state_dict(self, state), which brings back what state_dict "
        "returned."
    )


def is_resumable(checkpoint: Mapping[str, Any]) -> bool:
    """Return whether a fit can continue from ``checkpoint``: it holds more than weights, in trainkit's format."""
    return not _missing(checkpoint)


def require_training_state(checkpoint: Mapping[str, Any], path: str) -> None:
    """Raise `CheckpointError` if a fit cannot continue from ``checkpoint``."""
    missing = _missing(checkpoint)
    if missing:
        raise CheckpointError(
            f"{path} holds weights only (there is no {', '.join(missing)}), so a fit cannot continue from it. To start "
            "a new fit from its weights, use the module's load_from_checkpoint."
        )


def _missing(checkpoint: Mapping[str, Any]) -> list[str]:
    """Return the keys that a fit needs in order to continue, and that ``checkpoint`` lacks."""
    needed = ("optimizer_states", "lr_schedulers", "loops", "callbacks", "trainkit")
    return [key for key in needed if key not in checkpoint]
