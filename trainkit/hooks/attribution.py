"""Which plugin raised an exception: said in one note on it. Its type, message and traceback stay as they are."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, NamedTuple

import trainkit
from trainkit.errors import note_on
from trainkit.hooks.unbindable import owner_name

if TYPE_CHECKING:
    from trainkit.origin import Package


class Attribution(NamedTuple):
    """A plugin at one hook, which is named in a note on what it raises.

    Attributes:
        name: The name under which the plugin is registered.
        plugin: The plugin.
        hook: The hook's name.
    """

    name: str
    plugin: object
    hook: str

    def blame(self, error: BaseException) -> None:
        """Note on ``error`` that this plugin raised it, unless another plugin has been named already."""
        # Hooks nest: a plugin that saves a checkpoint calls those of ``on_save_checkpoint``. The exception passes the
        # inner plugin first, and that is the one that raised it.
        if not any(note.startswith("in plugin ") for note in getattr(error, "__notes__", ())):
            note_on(error, str(self))

    def __str__(self) -> str:
        return f"in plugin {self.name!r} ({origin(self.plugin)}), hook {self.hook}"


def in_one_line(error: BaseException) -> str:
    """Return type and message of ``error``, also if its ``__str__`` raises."""
    return traceback.format_exception_only(error)[0].strip()


def described(plugin: object) -> str:
    """Return the name of a plugin's class, and where it comes from."""
    return f"{owner_name(plugin)} ({origin(plugin)})"


def origin(plugin: object) -> str:
    """Return the installed package that ``plugin`` comes from, with its version; its Python module if there is none.

    Reads the metadata of all installed packages, which takes tens of milliseconds: only for messages.
    """
    # Imported here: the import alone costs 20 ms, which a run without errors does not need.
    from trainkit.origin import module_of, packages_of

    try:
        return ", ".join(map(_with_need, packages_of(plugin))) or module_of(plugin)
    # Metadata that some package broke must not take the place of the error that is being reported.
    except Exception as error:
        return f"{module_of(plugin)}, of an unknown package: {error!r}"


def _with_need(package: Package) -> str:
    """Return name and version, and which trainkit the package needs, if that is another one: a reason for any error."""
    from trainkit.made_for import unmet_need

    need = unmet_need(package.name)
    return f"{package}, which needs {need}; this is trainkit {trainkit.__version__}" if need else str(package)
