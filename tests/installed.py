"""Packages that tests install: the files that pip would leave, in a folder on ``sys.path``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path


class Site:
    """A folder in which packages are installed.

    Args:
        folder: The folder, which is on ``sys.path``.

    Attributes:
        modules: The names of all modules in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: set[str] = set()

    def install(
        self, distribution: str, version: str, entry_points: str, *, requires: Sequence[str] = (), **modules: str
    ) -> None:
        """Install a package.

        Args:
            distribution: Its name.
            version: Its version.
            entry_points: The text of its ``entry_points.txt``.
            requires: What it needs.
            modules: The text of each of its modules, by name.
        """
        metadata = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir()
        needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n{needs}")
        files = [f"{name}.py" for name in modules] + [f"{metadata.name}/METADATA"]
        (metadata / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        (metadata / "entry_points.txt").write_text(entry_points)
        for name, source in modules.items():
            (self.folder / f"{name}.py").write_text(source)
        self.modules |= modules.keys()
        importlib.invalidate_caches()
