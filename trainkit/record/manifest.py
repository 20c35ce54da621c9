"""The parts of a run, such as plugins and the module: of which class, from which package, and from which file."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import trainkit

_INSTALLED = {"site-packages", "dist-packages"}
"""The folders of packages that are not the user's own."""


def manifest(parts: Iterable[tuple[str, object]]) -> list[dict[str, Any]]:
    """Return what is known of ``parts``, in their order.

    Args:
        parts: Names, and the objects that have them.

    Returns:
        For each part ``name``, ``target`` (``"module:Class"``), ``distribution`` and ``version`` of the package (None
        for a file of the user's own), ``file`` and its ``sha256`` (None where there is no file, as in a notebook).
    """
    return [_described(name, part) for name, part in parts]


def own_files(described: Iterable[dict[str, Any]]) -> list[Path]:
    """Return the files of a manifest that are the user's own: of no package that was installed as such."""
    paths = [Path(each["file"]) for each in described if each["file"] and each["distribution"] != "trainkit"]
    return [path for path in paths if _INSTALLED.isdisjoint(path.parts)]


def _described(name: str, part: object) -> dict[str, Any]:
    owner = part if inspect.isclass(part) or inspect.ismodule(part) else type(part)
    module = owner.__name__ if inspect.ismodule(owner) else owner.__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    distribution, version = _package_of(module.partition(".")[0])
    return {
        "name": name,
        "target": module if inspect.ismodule(owner) else f"{module}:{owner.__qualname__}",
        "distribution": distribution,
        "version": version,
        "file": file,
        "sha256": None if file is None else _digest(file),
    }


def _digest(file: str) -> str | None:
    with suppress(OSError):  # within a zip file, or gone
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return None


@functools.cache
def _package_of(name: str) -> tuple[str | None, str | None]:
    """Return the installed package that has the module ``name``, and its version."""
    if name == "trainkit":
        return name, trainkit.__version__
    if name != "__main__":
        for distribution in _distributions().get(name, ()):
            with suppress(importlib.metadata.PackageNotFoundError):
                return distribution, importlib.metadata.version(distribution)
    return None, None


@functools.cache  # the metadata of all packages, which is read in tens of milliseconds
def _distributions() -> dict[str, list[str]]:
    try:
        return dict(importlib.metadata.packages_distributions())
    except Exception:  # of one package that is broken; then nobody's package is known
        return {}
