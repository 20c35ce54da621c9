"""The installed packages that offer something to trainkit, by their metadata alone, which may be broken."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError
from pathlib import Path
from typing import NamedTuple

PREFIX = "trainkit."
"""The beginning of the groups of entry points that trainkit reads."""


class Offering(NamedTuple):
    """A package that offers something.

    Attributes:
        name: Its name for pip.
        version: Its version.
        points: Its entry points that are, or look as if they were, for trainkit.
    """

    name: str
    version: str
    points: tuple[EntryPoint, ...]


class Broken(NamedTuple):
    """A package that would offer something, and of which nothing can be used.

    Attributes:
        name: Its name as far as that is known, else what the folder of its metadata is named after.
        folder: That folder.
        why: What is wrong with it.
        names: What it would offer, as pairs of the group of an entry point and its name.
    """

    name: str
    folder: str
    why: str
    names: tuple[tuple[str, str], ...]

    @property
    def to_do(self) -> str:
        """What to do about it."""
        return f"pip install --force-reinstall {self.name}, or remove {self.folder}"


def offering() -> list[Offering]:
    """Return the packages on ``sys.path`` whose metadata can be read. Of several of one name, the first is imported."""
    return [each for each in _all() if isinstance(each, Offering)]


def broken() -> list[Broken]:
    """Return those whose metadata cannot be read. A package that offers nothing to trainkit is none of its affairs."""
    return [each for each in _all() if isinstance(each, Broken)]


def is_meant_for_us(group: str) -> bool:
    """Whether a group of entry points is one of trainkit's, or looks like a slip in one: ``trainkit-callbacks``."""
    return group.lower().replace("-", ".").replace("_", ".").startswith(PREFIX) or group == "trainkit"


def _all() -> Iterator[Offering | Broken | None]:
    for distribution in importlib.metadata.distributions():
        names = tuple(_names_in(_text_of(distribution)))
        if names:
            yield _read(distribution, names)


def _read(distribution: Distribution, names: tuple[tuple[str, str], ...]) -> Offering | Broken | None:
    """Return a package; None for one that another of its name comes before."""
    folder = _folder_of(distribution)
    name = folder.name.partition("-")[0]
    # What a file says that an installation has left half-written, and how that fails, differs by Python's version.
    try:
        metadata = distribution.metadata
        name = metadata["Name"] or name
        missing = [key for key in ("Name", "Version") if not metadata[key]]
        if missing:
            return Broken(name, str(folder), f"its METADATA has no {' and no '.join(missing)}", names)
        points = tuple(point for point in distribution.entry_points if is_meant_for_us(point.group))
        if not all(point.name and point.value for point in points):
            return Broken(name, str(folder), "a line of its entry_points.txt is not 'name = module:object'", names)
        first = importlib.metadata.distribution(name)
    except PackageNotFoundError:
        return Broken(name, str(folder), "the folder has another name, by which the package is not found", names)
    except Exception as error:
        return Broken(name, str(folder), f"it cannot be read: {type(error).__name__}: {error}", names)
    return Offering(name, metadata["Version"], points) if _folder_of(first) == folder else None


def _text_of(distribution: Distribution) -> str:
    try:
        return distribution.read_text("entry_points.txt") or ""
    except UnicodeDecodeError:
        return (_folder_of(distribution) / "entry_points.txt").read_text(errors="replace")
    except OSError:  # nothing is known of it, not even that it is meant for us
        return ""


def _folder_of(distribution: Distribution) -> Path:
    # Python tells the folder of packages nowhere else. Of one that is not from a folder, a message names where it lies.
    return Path(str(getattr(distribution, "_path", None) or distribution.locate_file("")))


def _names_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield group and name of each line that is meant for trainkit, also where some lines are not as they should be."""
    group = ""
    for line in map(str.strip, text.splitlines() if "trainkit" in text.lower() else ()):
        if line.startswith("["):
            group = line.strip("[] ")
        elif line and not line.startswith("#") and is_meant_for_us(group):
            yield group, line.partition("=")[0].strip()
