"""Whose states those in a checkpoint are: packages and classes by name, which are compared and never imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trainkit
from trainkit.origin import module_of, packages_of
from trainkit.storage.layout import Origin

ORIGINS = "origins"
"""The key below ``trainkit`` in a checkpoint."""

Origins = Mapping[str, Origin]
"""By the keys of states."""


def origin_of(plugin: Any) -> Origin | None:
    """Return the package of a plugin's class; None where that is in none: a script, or a folder of the user's own."""
    name = type(plugin).__qualname__
    # Known without metadata, which there are none of where it runs from its sources.
    if module_of(plugin).startswith("trainkit."):
        return {"package": "trainkit", "version": trainkit.__version__, "class": name}
    try:
        packages = packages_of(plugin)
    except Exception:  # metadata that some package broke are no reason not to save
        return None
    if not packages:
        return None
    names, versions = (", ".join(each) for each in zip(*packages, strict=True))
    return {"package": names, "version": versions, "class": name}


def may_be_of(plugin: Origin | None, saved: Origin | None) -> bool:
    """Whether the state that ``saved`` had may be that of ``plugin``: not if both are of packages, and these differ.

    Where one is not known, the key decides alone, as in files of other frameworks.
    """
    return plugin is None or saved is None or plugin["package"] == saved["package"]
