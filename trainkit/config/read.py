"""Reads a configuration file, applies overrides, and returns a `Config`."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from trainkit.checks import file_path
from trainkit.config.disabled import require_known
from trainkit.config.schema import Config, Source
from trainkit.errors import ConfigError
from trainkit.plugins import catalog
from trainkit.storage.regular import open_regular
from trainkit.storage.walk import walk
from trainkit.storage.yaml_text import first_line, load_yaml

_MAX_BYTES = 2**24
"""How long a configuration may be. What comes out of a pipe need not end."""


def read(path: str | os.PathLike[str], overrides: Iterable[str] = (), without: Iterable[str] = ()) -> Config:
    """Read a configuration.

    Args:
        path: A YAML file.
        overrides: ``key=value`` or ``+key=value`` sets a value, which is read as YAML; ``~key`` removes one.
            Later ones win.
        without: Names for ``plugins.disable``, each of which has to be one of this run: see `trainkit.config.disabled`.

    Raises:
        ConfigError: If the file or an override cannot be read, an interpolation leads nowhere, or a section is unknown
            or malformed.
    """
    file_path("read", optional=False, path=path)
    try:
        return _read(os.fspath(path), overrides, list(without))
    except RecursionError as error:
        raise ConfigError(f"{os.fspath(path)} is not a configuration: it is nested too deeply.") from error


def _read(path: str, overrides: Iterable[str], without: list[str]) -> Config:
    tree = _load(path)
    written: dict[str, str] = {}
    named = _named_callbacks(tree)
    for override in overrides:
        key = _apply(tree, override)
        named |= _named_callbacks(tree)
        # Removed first, so that the dict is in the order in which the last override of each key was given.
        written.pop(key, None)
        written[key] = override
    source = Source(path, written)
    if without:
        given = OmegaConf.select(tree, "plugins.disable")
        OmegaConf.update(tree, "plugins.disable", [*(given or ()), *without], force_add=True)
    try:
        sections: Any = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise _explain(error, source) from error
    unresolved: Any = OmegaConf.to_container(tree)
    for each in (sections, unresolved):
        _leave_out_disabled(each.get("callbacks"), named)
    config = Config.from_sections(sections, source, unresolved if _asks_resolvers(unresolved) else None)
    require_known(without, config)
    return config


def _load(path: str) -> DictConfig:
    try:
        # A pipe too, as in `trainkit fit <(make-config)`.
        with open_regular(path, or_pipe=True) as file:
            raw = file.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise ConfigError(f"{path} is not a configuration: it is longer than {_MAX_BYTES} bytes.")
        text = raw.decode()
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path!r}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a configuration: {error}") from error
    try:
        tree = load_yaml(text, lambda text: OmegaConf.load(io.StringIO(text)))
    except ValueError as error:
        raise ConfigError(f"{path} is not a configuration: {error}") from error
    if not isinstance(tree, DictConfig):
        raise ConfigError(f"{path} is not a configuration: it holds a list, and sections are a mapping.")
    return tree


def _apply(tree: DictConfig, override: str) -> str:
    """Apply one override to ``tree``, and return the key path that it sets or removes."""
    # Hydra's "+" for a new key is accepted; here a key need not be there to be set.
    key, separator, text = override.removeprefix("+").partition("=")
    removes = key.startswith("~")
    if (not separator and not removes) or not key.strip("~"):
        raise ConfigError(f"override {override!r} is not usable.\n    allowed      key=value, +key=value, ~key")
    try:
        if removes:
            return _remove(tree, key[1:])
        # As YAML, so that numbers, lists and null on the command line are what they are in a file.
        value = OmegaConf.to_container(load_yaml(text, lambda text: OmegaConf.from_dotlist([f"value={text}"])))
        assert isinstance(value, dict)
        OmegaConf.update(tree, key, value["value"], force_add=True)
    except (ValueError, OmegaConfBaseException) as error:
        raise ConfigError(f"override {override!r} is not usable: {first_line(error)}") from error
    return key


def _remove(tree: DictConfig, key: str) -> str:
    parent, _, name = key.rpartition(".")
    holder = OmegaConf.select(tree, parent) if parent else tree
    if not isinstance(holder, DictConfig) or name not in holder:
        raise ConfigError(f"override '~{key}' removes {key!r}, which is not there.")
    del holder[name]
    return key


def _named_callbacks(tree: DictConfig) -> set[str]:
    """Return the keys of the callbacks that ``tree`` describes."""
    sections: Any = OmegaConf.to_container(tree)
    callbacks = sections.get("callbacks")
    return {name for name in callbacks if callbacks[name] is not None} if isinstance(callbacks, dict) else set()


def _leave_out_disabled(callbacks: Any, named: set[str]) -> None:
    """Remove callbacks that null has disabled, if their key is the user's own: nothing else has that name.

    A name of the catalog stays with its null, which also disables what is there by default. So does one that nobody
    has used before, which is misspelt.
    """
    if isinstance(callbacks, dict):
        for name in [name for name in callbacks if callbacks[name] is None and name in named]:
            if not catalog.has("callbacks", name):
                del callbacks[name]


def _asks_resolvers(value: Any) -> bool:
    """Return whether there is something like ``${oc.env:NAME}`` in an unresolved value."""
    leaves = walk(value, enters=lambda item: isinstance(item, dict | list))
    # Rather too often than not: an interpolation may be within another one, ahead of the colon.
    return any(isinstance(leaf, str) and ":" in leaf.partition("${")[2] for _, leaf in leaves)


def _explain(error: OmegaConfBaseException, source: Source) -> ConfigError:
    """Return the error for an interpolation that leads nowhere, or for a value that is still ``???``."""
    key = str(error.full_key)
    if isinstance(error, MissingMandatoryValue):
        return source.refuse(key, f"{key} is '???': it has to be given.", write=f"{key}=VALUE as an override")
    return source.refuse(key, f"{key} cannot be resolved: {first_line(error)}")
