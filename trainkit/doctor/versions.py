"""Whether the versions of Python and of all packages are those that trainkit needs. Nothing of them is imported."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import trainkit
from trainkit.doctor.report import Fact, Finding, Found


def versions() -> Iterator[Found]:
    """Look at trainkit and Python."""
    yield Fact("trainkit", f"{trainkit.__version__}, in {Path(trainkit.__file__).parent}")
    given = platform.python_version()
    yield Fact("python", f"{given} on {platform.system()} {platform.machine()}")
    needed = _needed_python()
    if not needed.contains(given, prereleases=True):
        yield Finding(
            "broken", f"Python is {given}", f"trainkit needs {needed}", "make an environment with a newer one"
        )


def dependencies() -> Iterator[Found]:
    """Look at what trainkit needs, and at those packages of its extras that are installed."""
    told = []
    for requirement in _requirements():
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            if requirement.marker is None:
                yield _missing(requirement)
            continue
        fits = requirement.specifier.contains(version, prereleases=True)
        if requirement.marker is None:
            told.append(f"{requirement.name} {version}")
        if not fits:
            yield _unfit(requirement, version)
    yield Fact("needs", ", ".join(told) or "nobody knows: trainkit was not installed, as by pip install -e .")


def _missing(requirement: Requirement) -> Finding:
    return Finding(
        "broken",
        f"{requirement.name} is not installed",
        f"trainkit needs {requirement.name}{requirement.specifier}",
        f"pip install '{requirement.name}{requirement.specifier}'",
    )


def _unfit(requirement: Requirement, version: str) -> Finding:
    needed = f"{requirement.name}{requirement.specifier}"
    # Of what only an extra needs, nobody may ever use it.
    level, who = ("broken", "trainkit") if requirement.marker is None else ("slow", "an extra of trainkit")
    return Finding(
        "broken" if level == "broken" else "slow",
        f"{requirement.name} is {version}",
        f"{who} needs {needed}",
        f"pip install '{needed}'",
    )


def _requirements() -> list[Requirement]:
    try:
        texts = importlib.metadata.requires("trainkit") or ()
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        texts = ()
    return [Requirement(text) for text in texts]


def _needed_python() -> SpecifierSet:
    try:
        return SpecifierSet(str(importlib.metadata.metadata("trainkit").json.get("requires_python") or ""))
    except importlib.metadata.PackageNotFoundError:
        return SpecifierSet()
