from __future__ import annotations

import importlib.metadata
import platform

import pytest
from packaging.requirements import Requirement

from trainkit.doctor import versions
from trainkit.doctor.report import Fact, Finding


def findings(needs: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needs)
    return [each for each in versions.dependencies() if isinstance(each, Finding)]


def test_all_that_is_needed_is_listed_with_its_version() -> None:
    (told,) = [each for each in versions.dependencies() if isinstance(each, Fact)]
    for text in importlib.metadata.requires("trainkit") or ():
        need = Requirement(text)
        if need.marker is None:
            assert f"{need.name} {importlib.metadata.version(need.name)}" in told.text


def test_what_is_missing_or_old_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(["no-such-package>=2", "click>=999", "pluggy>=1"], monkeypatch)
    assert [(each.level, each.to_do) for each in found] == [
        ("broken", "pip install 'no-such-package>=2'"),
        ("broken", "pip install 'click>=999'"),
    ]


def test_what_only_an_extra_needs_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(["no-such>=2; extra == 'x'", "click>=999; extra == 'x'"], monkeypatch)
    assert [(each.level, each.what.split()[0]) for each in found] == [("slow", "click")]


def test_a_python_that_is_too_old_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [each for each in versions.versions() if isinstance(each, Finding)]
    monkeypatch.setattr(platform, "python_version", lambda: "3.8.1")
    (found,) = [each for each in versions.versions() if isinstance(each, Finding)]
    assert found.level == "broken" and "3.8.1" in found.what


def test_a_source_tree_that_was_not_installed_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    for name in ("requires", "metadata"):
        monkeypatch.setattr(importlib.metadata, name, absent)
    assert not [each for each in (*versions.versions(), *versions.dependencies()) if isinstance(each, Finding)]
