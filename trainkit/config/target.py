"""``_target_``: imports the class that a configuration names, and checks that it is one that is expected there."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from trainkit.config.schema import Source
from trainkit.errors import ConfigError, UnknownNameError, nearest_name, note_on


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
    parts = target.split(".") if isinstance(target, str) else []
    if len(parts) < 2 or not all(parts):
        raise source.refuse(key, f"{key}={target!r} is not a dotted name.", write=f"package.module.Class, {expected}")
    found, names = _import_longest(parts, key, source)
    for index, name in enumerate(names):
        owner, found = found, getattr(found, name, None)
        if found is None:
            is_last = index == len(names) - 1
            raise _unknown(owner, name, source.where(key), is_expected if is_last else _has_names)
    if not is_expected(found):
        raise source.refuse(key, f"{target} is {found!r}.", allowed=expected)
    return found


def _import_longest(parts: list[str], key: str, source: Source) -> tuple[Any, list[str]]:
    """Import the longest part of a dotted name that is a module; return it and the rest, such as a nested class."""
    missing: ConfigError | None = None
    for length in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:length])
        try:
            module = _import(name, key, source)
        except _NoModuleError as error:
            missing = missing or error
            continue
        rest = parts[length:]
        # Below a module that is none of a package there can be classes; a package may lack the module that is meant.
        if len(rest) > 1 and missing is not None and not hasattr(module, rest[0]):
            raise missing
        return module, rest
    assert missing is not None
    raise missing


def _has_names(found: Any) -> bool:
    return isinstance(found, type | ModuleType)


def _unknown(owner: Any, name: str, where: str, is_expected: Callable[[Any], bool]) -> ConfigError:
    """Return the error for a name that a module or class has not. Only names that would be accepted are suggested."""
    owner_name = getattr(owner, "__qualname__", None) or owner.__name__
    candidates = [each for each in dir(owner) if is_expected(getattr(owner, each, None))]
    unknown = UnknownNameError(f"name in {owner_name}", name, candidates, where)
    if isinstance(owner, ModuleType):
        _note_file_behind(unknown, owner.__name__)
    return unknown


class _NoModuleError(ConfigError):
    """There is no module of that name."""


def _import(name: str, key: str, source: Source) -> ModuleType:
    try:
        return importlib.import_module(name)
    # A user's file may fail in any way while it is imported; the message has to say which one, and where.
    # One that asks for the end of the program, as a script does, has failed too.
    except (Exception, SystemExit) as error:
        # The module itself is missing, or a package around it. One that it imports in turn is the next case.
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            searched = "modules of installed packages and of the current directory"
            missing = _NoModuleError(str(source.refuse(key, f"there is no module {error.name!r}.", allowed=searched)))
            nearest = nearest_name(str(error.name).rpartition(".")[2], _modules_beside(str(error.name)), 0.7)
            if nearest is not None:
                package, dot, _ = str(error.name).rpartition(".")
                note_on(missing, f"    did you mean {package + dot + nearest!r}?")
            _note_file_behind(missing, name)
            raise missing from error
        problem = f"{name} cannot be imported: {type(error).__name__}: {error}\n    raised at    {_place_of(error)}"
        raise source.refuse(key, problem) from error


def _modules_beside(name: str) -> list[str]:
    """Return the names of the modules among which ``name`` was looked for."""
    package = sys.modules.get(name.rpartition(".")[0]) if "." in name else None
    places = [*getattr(package, "__path__", ())] if "." in name else None
    return [module.name for module in pkgutil.iter_modules(places)]


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


def _place_of(error: BaseException) -> str:
    """Return file and line where ``error`` was raised."""
    # The traceback of a SyntaxError ends in the import machinery; the error itself knows the file.
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"
