"""Whose plugin an exception came from: one note on the exception, and nothing else about it changed."""

from __future__ import annotations

import inspect
import traceback
from typing import NamedTuple


class Culprit(NamedTuple):
    """A plugin at one hook, to be named if it raises."""

    name: str
    plugin: object
    hook: str

    def blame(self, error: BaseException) -> None:
        """Note on ``error`` that this plugin raised it, unless a plugin called from this one was blamed before."""
        if not any(note.startswith("in plugin ") for note in getattr(error, "__notes__", ())):
            error.add_note(str(self))

    def __str__(self) -> str:
        return f"in plugin {self.name!r} ({origin(self.plugin)}), hook {self.hook}"


def in_one_line(error: BaseException) -> str:
    """Return type and message of ``error``, also if it cannot be turned into a string."""
    return traceback.format_exception_only(error)[0].strip()


def origin(plugin: object) -> str:
    """Return the installed package that ``plugin`` comes from, with its version; its Python module if there is none.

    Reads the metadata of all installed packages: for errors and reports, not for a run.
    """
    # Imported here, because it costs 20 ms that a run without errors does not need.
    from importlib.metadata import packages_distributions, version

    owner = plugin if inspect.isclass(plugin) else type(plugin)
    module = plugin.__name__ if inspect.ismodule(plugin) else owner.__module__
    try:
        distributions = packages_distributions().get(module.partition(".")[0], [])
        return ", ".join(f"{name} {version(name)}" for name in sorted(set(distributions))) or module
    # Metadata that some package broke must not take the place of the error that is being reported.
    except Exception as error:
        return f"{module}, of an unknown package: {error!r}"
