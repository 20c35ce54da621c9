"""Overrides: what the command line and the environment change in a configuration.

==============  =========================================================
``key=value``   sets a value; a mapping is merged into the one that is there
``+key=value``  the same, as Hydra writes it for a key that is new
``key:=value``  sets a value, in place of the whole of what is there
``key+=value``  appends one item to a list
``~key``        removes a key
==============  =========================================================
"""

from __future__ import annotations

import os
import re
import shlex
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainkit.config.yaml_loader import parse
from trainkit.errors import ConfigError
from trainkit.storage.yaml_text import first_line

VARIABLE = "TRAINKIT_OVERRIDES"
"""The environment variable with overrides, separated as words of a shell, which come ahead of those of the command."""

_FORMS = "key=value, +key=value, key:=value, key+=value, ~key"


class Override(NamedTuple):
    """One override.

    Attributes:
        key: The key path.
        how: ``=``, ``:=``, ``+=`` or ``~``.
        value: The text of the value.
    """

    key: str
    how: str
    value: str


def of_environment() -> list[str]:
    """Return the overrides of the environment.

    Raises:
        ConfigError: If a quote in them is not closed.
    """
    try:
        return shlex.split(os.environ.get(VARIABLE, ""))
    except ValueError as error:
        raise ConfigError(f"{VARIABLE}={os.environ[VARIABLE]!r} is not usable: {error}.") from error


def apply(tree: DictConfig, override: str) -> str:
    """Apply one override to ``tree``; return the key path that it sets or removes, of ``+=`` that of the new item."""
    key, how, text = _parsed(override)
    if how == "~":
        return _remove(tree, key)
    _refuse_name_in_list(tree, key, override)
    try:
        value = _value(text)
        if how == "+=":
            items = _items(tree, key)
            OmegaConf.update(tree, key, [*items, value], merge=False, force_add=True)
            return f"{key}[{len(items)}]"
        _refuse_other_form(tree, key, how, value, text)
        OmegaConf.update(tree, key, value, merge=how == "=", force_add=True)
    except ConfigError:  # a ValueError too, which says all
        raise
    except (ValueError, OmegaConfBaseException) as error:
        raise ConfigError(f"override {override!r} is not usable: {first_line(error)}") from error
    except RecursionError as error:
        raise ConfigError(f"override {override!r:.80} is not usable: it is nested too deeply") from error
    return key


def _parsed(override: str) -> Override:
    if override.startswith("~") and override != "~":
        return Override(override[1:], "~", "")
    # Hydra's "+" for a new key is accepted; here a key need not be there to be set. So are dashes of other commands.
    found = re.match(r"\+?([^=]*?)(:=|\+=|=)(.*)", override, re.DOTALL)
    if found is None or not found[1].strip("~"):
        raise ConfigError(f"override {override!r} is not usable.\n    allowed      {_FORMS}{_without_dashes(override)}")
    if found[1].startswith("--"):
        raise ConfigError(f"override {override!r} is not usable.{_without_dashes(override)}")
    return Override(*found.groups())


def _without_dashes(override: str) -> str:
    return f"\n    write        {override.lstrip('-')}" if override.startswith("--") and "=" in override else ""


def _value(text: str) -> Any:
    """Return the value of a text, read as YAML, so that numbers, lists and null are what they are in a file."""
    # In a file this would begin a comment; here the shell has handed it over.
    if "#" in text and text[:1] not in "'\"[{&*!|>":
        return text
    return parse(text)


def _refuse_name_in_list(tree: DictConfig, key: str, override: str) -> None:
    """Raise for ``callbacks.NAME=...`` where the callbacks are a list, whose items have no names."""
    above, _, name = key.rpartition(".")
    if above and name and isinstance(OmegaConf.select(tree, above), ListConfig):
        raise ConfigError(
            f"override {override!r} is not usable: {above} is a list here, whose items have no names.\n"
            f"    write        {above}[0].KEY=VALUE, {above}+=VALUE, or {above}:={{NAME: ...}} in place of the list"
        )


def _refuse_other_form(tree: DictConfig, key: str, how: str, value: Any, text: str) -> None:
    """Raise for a list that is to be merged into a mapping, and the reverse, which nobody could."""
    held = OmegaConf.select(tree, key)
    if how == "=" and isinstance(held, DictConfig) and isinstance(value, list):
        is_there, given = "a mapping", "a list"
    elif how == "=" and isinstance(held, ListConfig) and isinstance(value, dict):
        is_there, given = "a list", "a mapping"
    else:
        return
    raise ConfigError(
        f"override '{key}={text}' is not usable: {key} is {is_there} here, into which {given} cannot be merged.\n"
        f"    write        {key}:={text}, in place of the whole of what is there"
    )


def _items(tree: DictConfig, key: str) -> list[Any]:
    """Return the items of the list at ``key``; none where there is nothing."""
    held = OmegaConf.select(tree, key)
    if held is None:
        return []
    if not isinstance(held, ListConfig):
        raise ValueError(f"{key} is no list, to which an item could be appended")
    items: Any = OmegaConf.to_container(held)
    return list(items)


def _remove(tree: DictConfig, key: str) -> str:
    parent, _, name = key.rpartition(".")
    holder = OmegaConf.select(tree, parent) if parent else tree
    if not isinstance(holder, DictConfig) or name not in holder:
        raise ConfigError(f"override '~{key}' removes {key!r}, which is not there.")
    del holder[name]
    return key
