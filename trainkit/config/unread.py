"""Values of the section ``shared`` to which nothing in a configuration refers."""

from __future__ import annotations

import re
from typing import Any

from trainkit.storage.walk import walk

_REFERENCE = re.compile(r"\$\{\s*([^${}:\s]+)\s*\}")
"""A key that an interpolation refers to: from the root, or, with dots in front, from where it is written."""


def unread_values(sections: dict[str, Any]) -> list[str]:
    """Return the key paths of values below ``shared`` to which no interpolation refers.

    An anchor of YAML may still have been used: when a file has been read, nothing is left of it.

    Args:
        sections: The sections, with their interpolations as they are written.
    """
    shared = sections.get("shared")
    if not isinstance(shared, dict):
        return []
    texts = [value for _, value in walk(sections) if isinstance(value, str)]
    if any("${" in _REFERENCE.sub("", text) and "shared" in text for text in texts):
        return []  # one within another, such as ${shared.${name}}: which it leads to depends on values
    referred = {_plain(found) for text in texts for found in _REFERENCE.findall(text)}
    return [place for place, _ in walk(shared, "shared") if not _is_read(_plain(place), referred)]


def _plain(path: str) -> str:
    """Return a key path with dots alone: ``a[0]`` is ``a.0``."""
    return path.replace("[", ".").replace("]", "")


def _is_read(place: str, referred: set[str]) -> bool:
    """Whether one of the paths that are ``referred`` to is ``place``, or holds it."""
    return any(
        # From where it is written: whose it is would take the place of each; its last names decide.
        place.endswith(path.lstrip(".")) if path.startswith(".") else f"{place}.".startswith(f"{path}.")
        for path in referred
    )
