"""Which plugin raised an exception: said in one note on it. Its type, message and traceback stay as they are."""

from __future__ import annotations

import traceback
from typing import NamedTuple

from trainkit.errors import note_on


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


def origin(plugin: object) -> str:
    """Return the installed package that ``plugin`` comes from, with its version; its Python module if there is none.

    A package that was made for another version of trainkit is said to be. Reads the metadata of all installed packages,
    which takes tens of milliseconds: only for messages.
    """
    # Imported here: the import alone costs 20 ms, which a run without errors does not need.
    from trainkit.made_for import unfit_for_us
    from trainkit.origin import module_of, packages_of

    try:
        found = [", which ".join(filter(None, (str(each), unfit_for_us(each.name)))) for each in packages_of(plugin)]
        return ", ".join(found) or module_of(plugin)
    # Metadata that some package broke must not take the place of the error that is being reported.
    except Exception as error:
        return f"{module_of(plugin)}, of an unknown package: {error!r}"
