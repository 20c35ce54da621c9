from __future__ import annotations

import importlib.metadata
import platform

import trainkit
from trainkit.record.environment import environment


def test_the_versions_of_what_is_imported_are_in_it() -> None:
    found = environment()
    assert found["python"] == platform.python_version()
    packages = found["packages"]
    assert packages["trainkit"] == trainkit.__version__
    assert {name: packages[name] for name in ("torch", "pluggy")} == {
        name: importlib.metadata.version(name) for name in ("torch", "pluggy")
    }
    assert list(packages) == sorted(packages, key=str.lower)


def test_what_is_changed_in_it_is_not_changed_for_others() -> None:
    environment()["packages"].clear()
    assert environment()["packages"]
