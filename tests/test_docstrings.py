"""Everything public is documented, and examples in docstrings work."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import trainkit
from trainkit.hooks.specs import HOOKS

MODULES = sorted(
    m.name for m in pkgutil.walk_packages(trainkit.__path__, "trainkit.") if not m.name.endswith("__main__")
)


def undocumented(module_name: str) -> Iterator[str]:
    module = importlib.import_module(module_name)
    if not module.__doc__:
        yield module_name
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module_name:
            continue
        if (inspect.isfunction(value) or inspect.isclass(value)) and not value.__doc__:
            yield f"{module_name}.{name}"
        if inspect.isclass(value):
            yield from (f"{module_name}.{name}.{method}" for method in undocumented_methods(value))


def undocumented_methods(owner: type) -> Iterator[str]:
    """Yield the public methods without a docstring; one that overrides a documented one, or is a hook, needs none."""
    for name, value in vars(owner).items():
        is_method = inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)
        if is_method and not name.startswith("_") and name not in HOOKS and not inspect.getdoc(getattr(owner, name)):
            yield name


@pytest.mark.parametrize("module_name", MODULES)
def test_everything_public_is_documented(module_name: str) -> None:
    assert list(undocumented(module_name)) == []


@pytest.mark.parametrize("module_name", MODULES)
def test_examples_in_docstrings_work(module_name: str) -> None:
    assert doctest.testmod(importlib.import_module(module_name), optionflags=doctest.ELLIPSIS).failed == 0
