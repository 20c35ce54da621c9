"""Reads the files of a configuration, applies overrides, and returns a `Config`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from trainkit.checks import file_path
from trainkit.config import overrides as overriding
from trainkit.config.disabled import require_known
from trainkit.config.files import dotted, key_paths, load, merge
from trainkit.config.schema import Config, Source
from trainkit.config.unread import unread_values
from trainkit.errors import ConfigError
from trainkit.plugins import catalog
from trainkit.storage.walk import walk
from trainkit.storage.yaml_text import first_line

FilePath = str | os.PathLike[str]


def read(
    given: FilePath | Sequence[FilePath] | Mapping[str, Any],
    overrides: Iterable[str] = (),
    without: Iterable[str] = (),
) -> Config:
    """Read a configuration.

    Args:
        given: A YAML file; several, of which later ones change what they name; or the sections themselves.
        overrides: What to change then, in their order; see `trainkit.config.overrides` for their forms.
        without: Names for ``plugins.disable``, each of which has to be one of this run: see `trainkit.config.disabled`.

    Raises:
        ConfigError: If a file or an override cannot be read, an interpolation leads nowhere, or a section is unknown
            or malformed.
    """
    given = [given] if isinstance(given, str | os.PathLike) else given
    if not isinstance(given, Mapping):
        if not isinstance(given, Sequence) or not given:
            raise ConfigError(f"read({given!r}): a path, a list of paths, or the sections as a mapping are needed.")
        for path in given:
            file_path("read", optional=False, path=path)
    try:
        return _read(given, overrides, list(without))
    except RecursionError as error:
        names = "the mapping" if isinstance(given, Mapping) else " and ".join(os.fspath(path) for path in given)
        raise ConfigError(f"{names} is not a configuration: it is nested too deeply.") from error


def _read(given: Sequence[FilePath] | Mapping[str, Any], overrides: Iterable[str], without: list[str]) -> Config:
    tree, files = _merged(given)
    written: dict[str, str] = {}
    named = _named_callbacks(tree)
    of_environment = overriding.of_environment()
    for index, override in enumerate([*of_environment, *overrides]):
        key = dotted(overriding.apply(tree, override))
        named |= _named_callbacks(tree)
        # Removed first, so that the dict is in the order in which the last override of each key was given.
        written.pop(key, None)
        written[key] = f"{override} of {overriding.VARIABLE}" if index < len(of_environment) else override
    source = Source(next(iter(files)), written, files)
    if without:
        disabled = OmegaConf.select(tree, "plugins.disable")
        OmegaConf.update(tree, "plugins.disable", [*(disabled or ()), *without], force_add=True)
    try:
        sections: Any = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise _explain(error, source) from error
    unresolved: Any = OmegaConf.to_container(tree)
    for each in (sections, unresolved):
        _leave_out_disabled(each.get("callbacks"), named)
    config = Config.from_sections(sections, source, unresolved if _asks_resolvers(unresolved) else None)
    config = replace(config, unread=tuple(unread_values(unresolved)))
    require_known(without, config)
    return config


def _merged(given: Sequence[FilePath] | Mapping[str, Any]) -> tuple[DictConfig, dict[str, frozenset[str]]]:
    """Return all that was given, as one, and the key paths that each file has written."""
    parts = {"(mapping)": dict(given)} if isinstance(given, Mapping) else {}
    merged: dict[Any, Any] = {}
    files: dict[str, frozenset[str]] = {}
    for path in () if isinstance(given, Mapping) else given:
        parts[os.fspath(path)] = load(os.fspath(path))
    for path, part in parts.items():
        merged = merge(merged, part)
        files[path] = frozenset(map(dotted, key_paths(part)))
    try:
        return OmegaConf.create(merged), files
    except (ValueError, OmegaConfBaseException) as error:
        raise ConfigError(f"{' and '.join(files)} is not a configuration: {first_line(error)}") from error


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
