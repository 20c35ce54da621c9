"""Which installed packages an object comes from. Nothing is imported: only metadata is read, once for each module."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import os
import sys
from typing import NamedTuple


class Package(NamedTuple):
    """An installed package.

    Attributes:
        name: Its name for pip.
        version: Its version.
    """

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def packages_of(owner: object) -> tuple[Package, ...]:
    """Return the installed packages to which the class of ``owner`` belongs; several may share one name in Python.

    Args:
        owner: An object, a class or a Python module.

    Raises:
        Exception: Whatever reading the metadata of a broken package raises.
    """
    return _installed(module_of(owner).partition(".")[0], tuple(sys.path))


def module_of(owner: object) -> str:
    """Return the name of the Python module that defines ``owner``, or its class."""
    if inspect.ismodule(owner):
        return owner.__name__
    return (owner if inspect.isclass(owner) else type(owner)).__module__


@functools.cache  # by `sys.path` too: a program may install packages
def _installed(top: str, path: tuple[str, ...]) -> tuple[Package, ...]:
    if _is_beside_packages(top):
        names = _names_of(top)
        if names:
            return tuple(Package(name, importlib.metadata.version(name)) for name in sorted(set(names)))
    # What was installed with `pip install -e` lies elsewhere, and its metadata name no modules. The name of any other
    # package may be that of a file of the user's own.
    try:
        distribution = importlib.metadata.distribution(top)
    except importlib.metadata.PackageNotFoundError:
        return ()
    is_editable = distribution.read_text("direct_url.json") is not None
    return (Package(distribution.name, distribution.version),) if is_editable else ()


def _names_of(top: str) -> list[str]:
    """Return the names of the packages that have a module; one that was left half-installed has none."""
    try:
        found: list[str | None] = list(importlib.metadata.packages_distributions().get(top, []))
    except Exception:  # one of all packages is broken, in whatever way: the others are looked at one by one
        found = [_name_if_it_has(top, each) for each in importlib.metadata.distributions()]
    return [name for name in found if name]


def _name_if_it_has(top: str, distribution: importlib.metadata.Distribution) -> str | None:
    try:
        modules = (distribution.read_text("top_level.txt") or "").split()
        modules = modules or [file.parts[0].removesuffix(".py") for file in distribution.files or ()]
        return distribution.metadata["Name"] if top in modules else None
    except Exception:
        return None


def _is_beside_packages(top: str) -> bool:
    """Whether a module lies in a folder of installed packages: reading all of them takes tens of milliseconds."""
    file = getattr(sys.modules.get(top), "__file__", None)
    if file is None:  # a namespace that packages share, or a module that was not imported
        return True
    folder = os.path.dirname(os.path.dirname(file) if os.path.basename(file).startswith("__init__.") else file)
    return next(iter(importlib.metadata.distributions(path=[folder])), None) is not None
