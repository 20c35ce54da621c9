from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import pytest

import trainkit
from trainkit.record.environment import _packages, environment
from trainkit.record.manifest import _distributions, manifest


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


def test_a_package_that_cannot_be_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("bytes", b"Name: \xff\nVersion: 1\n"), ("empty", b""), ("fine", b"Name: fine\nVersion: 2\n")):
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_bytes(text)
        (folder / "top_level.txt").write_bytes(text)
    monkeypatch.syspath_prepend(tmp_path)
    _packages.cache_clear()
    _distributions.cache_clear()
    try:
        packages = environment()["packages"]
        (part,) = manifest([("layer", Path())])
    finally:
        _packages.cache_clear()
        _distributions.cache_clear()
    assert packages["fine"] == "2"
    assert {"torch", "trainkit"} <= packages.keys()
    assert part["name"] == "layer"
