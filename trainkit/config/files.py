"""Reading the files of a configuration, and merging several: a later one changes what it names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from trainkit.config.yaml_loader import parse
from trainkit.errors import ConfigError
from trainkit.storage.regular import open_regular

REPLACE = "_replace_"
"""In a mapping, with the value true: it takes the place of what an earlier file has there, in place of a merge."""

_MAX_BYTES = 2**24
"""How long a configuration may be. What comes out of a pipe need not end."""


def load(path: str) -> dict[Any, Any]:
    """Return what is in a file.

    Raises:
        ConfigError: If it cannot be read, or is no configuration.
    """
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
        found = parse(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not a configuration: {error}") from error
    # An empty file is one without sections.
    if found is not None and not isinstance(found, dict):
        kind = "a list" if isinstance(found, list) else f"{type(found).__name__} {found!r:.50}"
        raise ConfigError(f"{path} is not a configuration: it holds {kind}, and sections are a mapping.")
    return found or {}


def merge(base: dict[Any, Any], later: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return ``base`` with what ``later`` names put in its place. Mappings are merged, at any depth; lists are not."""
    merged = dict(base)
    for name, value in later.items():
        old = merged.get(name)
        is_merged = isinstance(value, dict) and isinstance(old, dict) and not value.get(REPLACE)
        merged[name] = merge(old, value) if is_merged else without_marks(value)  # type: ignore[arg-type]  # it is a dict
    merged.pop(REPLACE, None)
    return merged


def without_marks(value: Any) -> Any:
    """Return ``value`` without the marks that say what is to be replaced."""
    if isinstance(value, dict):
        return {name: without_marks(item) for name, item in value.items() if name != REPLACE}
    return [without_marks(item) for item in value] if isinstance(value, list) else value


def key_paths(value: Any, above: str = "") -> Iterator[str]:
    """Yield the key path of every mapping and value within ``value``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        path = f"{above}[{name}]" if isinstance(value, list) else f"{above}.{name}" if above else str(name)
        yield path
        yield from key_paths(item, path)


def dotted(path: str) -> str:
    """Return a key path with the places of items as names: ``a.0.b`` for ``a[0].b``, which are two ways to write it."""
    return re.sub(r"\[(\d+)\]", r".\1", path)


def is_file_name(word: str) -> bool:
    """Whether a word of the command line names a configuration file, rather than setting a key."""
    is_override = "=" in word or word.startswith("~")
    return word.endswith((".yaml", ".yml")) and (not is_override or os.path.exists(word))
