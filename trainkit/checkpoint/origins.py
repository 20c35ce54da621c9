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
    """Return the package of a plugin's class, and the class; None where broken metadata tell nothing of it.

    Of a script, or a folder of the user's own, package and version are empty.
    """
    name = type(plugin).__qualname__
    # Known without metadata, which there are none of where it runs from its sources.
    if module_of(plugin).startswith("trainkit."):
        return {"package": "trainkit", "version": trainkit.__version__, "class": name}
    try:
        packages = packages_of(plugin)
    except Exception:  # metadata that some package broke are no reason not to save
        return None
    names = ", ".join(each.name for each in packages)
    versions = ", ".join(each.version for each in packages)
    return {"package": names, "version": versions, "class": name}


def is_same_class(plugin: Origin | None, saved: Origin | None) -> bool:
    """Whether both are known and of one class of one package, whatever its version, or of none."""
    return is_same_package(plugin, saved) and _class_of(plugin) == _class_of(saved)


def is_same_package(plugin: Origin | None, saved: Origin | None) -> bool:
    """Whether both are known and of one package, whatever its version, or of none."""
    return plugin is not None and saved is not None and plugin["package"] == saved["package"]


def may_be_of(plugin: Origin | None, saved: Origin | None) -> bool:
    """Whether the state that ``saved`` had may be that of ``plugin``: not if both are of packages, and these differ.

    Where one is not known, as in files of other frameworks, or is of no package yet, the key decides alone.
    """
    if plugin is None or saved is None or not plugin["package"] or not saved["package"]:
        return True
    return plugin["package"] == saved["package"]


def _class_of(origin: Origin | None) -> str | None:
    return None if origin is None else origin["class"]
