"""For which versions of trainkit an installed package says that it was made."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import trainkit

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet


def unmet_need(distribution: str) -> str:
    """Return which trainkit an installed package needs, such as ``trainkit<0.1``, if it is another than this one.

    Empty if it is this one, or if the package does not say.
    """
    for needed in _needed(distribution):
        if not _is_met(needed, trainkit.__version__):
            return f"trainkit{needed}"
    return ""


def _needed(distribution: str) -> tuple[SpecifierSet, ...]:
    # Imported here: most runs name no part of another package.
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    found = []
    for text in importlib.metadata.requires(distribution) or ():
        try:
            requirement = Requirement(text)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        # pip says so when it installs the package.
        except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName):
            continue
        if applies and canonicalize_name(requirement.name) == "trainkit":
            found.append(requirement.specifier)
    return tuple(found)


def _is_met(needed: SpecifierSet, version: str) -> bool:
    """Whether a version of trainkit is among those that are needed.

    One that is on the way to a release (``0.2.0.dev3``) counts as that release too: authors try their packages with it
    before they can ask for anything else.
    """
    from packaging.version import Version

    ours = Version(version)
    return needed.contains(ours, prereleases=True) or (
        ours.is_prerelease and needed.contains(Version(ours.base_version))
    )
