from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import trainkit
from trainkit.callbacks import EarlyStopping
from trainkit.record.manifest import manifest, own_files


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the user's own."""
    path = tmp_path / "own_plugin.py"
    path.write_text("class Mine:\n    class Inner:\n        pass\n")
    spec = importlib.util.spec_from_file_location("own_plugin", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "own_plugin", module)
    spec.loader.exec_module(module)
    return module


def test_a_class_of_the_users_own_is_known_by_its_file(own: ModuleType) -> None:
    (found,) = manifest([("mine", own.Mine.Inner())])
    assert own.__file__ is not None
    assert found == {
        "name": "mine",
        "target": "own_plugin:Mine.Inner",
        "distribution": None,
        "version": None,
        "file": own.__file__,
        "sha256": hashlib.sha256(Path(own.__file__).read_bytes()).hexdigest(),
    }


def test_a_class_and_a_module_are_plugins_too(own: ModuleType) -> None:
    assert [each["target"] for each in manifest([("a", own.Mine), ("b", own)])] == ["own_plugin:Mine", "own_plugin"]


def test_of_a_package_the_version_is_told() -> None:
    ours, other = manifest([("stop", EarlyStopping("a")), ("net", torch.nn.Linear(1, 1))])
    assert (ours["distribution"], ours["version"]) == ("trainkit", trainkit.__version__)
    assert (other["distribution"], other["version"]) == ("torch", importlib.metadata.version("torch"))


def test_a_class_without_a_file_has_none() -> None:
    made = type("Typed", (), {"__module__": "nowhere"})
    assert manifest([("typed", made())])[0]["sha256"] is None


def test_files_of_packages_are_not_the_users_own(own: ModuleType) -> None:
    found = manifest([("stop", EarlyStopping("a")), ("net", torch.nn.Linear(1, 1)), ("mine", own.Mine())])
    assert own_files(found) == [Path(str(own.__file__))]
