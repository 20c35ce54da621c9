"""``_target_``: imports the class that a configuration names, and checks that it is one that is expected there."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from trainkit.config.schema import Source
from trainkit.errors import ConfigError, UnknownNameError, note_on


def locate(target: Any, key: str, source: Source, expected: str, is_expected: Callable[[Any], bool]) -> Any:
    """Import and return the object that ``target`` names.

    Args:
        target: A dotted name, such as ``package.module.Class``.
        key: The key path of the target.
        source: Where the configuration was written; goes into errors.
        expected: What is expected there, in words.
        is_expected: Tells whether an object is that.

    Raises:
        ConfigError: If there is no such thing, its module does not import, or it is not what the place expects.
    """
    module_name, _, name = target.rpartition(".") if isinstance(target, str) else ("", "", "")
    if not module_name:
        raise source.refuse(key, f"{key}={target!r} is not a dotted name.", write=f"package.module.Class, {expected}")
    module = _import(module_name, key, source)
    found = getattr(module, name, None)
    if found is None:
        # Only names that would be accepted are suggested.
        candidates = [candidate for candidate in dir(module) if is_expected(getattr(module, candidate, None))]
        unknown = UnknownNameError(f"name in {module_name}", name, candidates, source.where(key))
        _note_file_behind(unknown, module_name)
        raise unknown
    if not is_expected(found):
        raise source.refuse(key, f"{target} is {found!r}.", allowed=expected)
    return found


def _import(name: str, key: str, source: Source) -> ModuleType:
    try:
        return importlib.import_module(name)
    # A user's file may fail in any way while it is imported; the message has to say which one, and where.
    except Exception as error:
        # The module itself is missing, or a package around it. One that it imports in turn is the next case.
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            searched = "modules of installed packages and of the current directory"
            missing = source.refuse(key, f"there is no module {error.name!r}.", allowed=searched)
            _note_file_behind(missing, name)
            raise missing from error
        problem = f"{name} cannot be imported: {type(error).__name__}: {error}\n    raised at    {_place_of(error)}"
        raise source.refuse(key, problem) from error


def _note_file_behind(error: ConfigError, module_name: str) -> None:
    """Add a note to ``error`` if the current folder has a file of that name too, which the other one hides."""
    first = module_name.partition(".")[0]
    found = getattr(sys.modules.get(first), "__file__", None)
    own = next((path for path in (Path(first).absolute(), Path(f"{first}.py").absolute()) if path.exists()), None)
    if own and found and own not in (Path(found), *Path(found).parents):
        note_on(
            error,
            f"    not looked at {own}, as the current folder comes last, and {first} is\n"
            f"                 {found}; rename it, or put the folder first: PYTHONPATH=.",
        )


def _place_of(error: Exception) -> str:
    """Return file and line where ``error`` was raised."""
    # The traceback of a SyntaxError ends in the import machinery; the error itself knows the file.
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"
