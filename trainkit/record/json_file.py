"""A JSON file that holds names with values: written whole or not at all, read as data."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainkit.storage.regular import open_regular
from trainkit.storage.temporary import replacement


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value``, in the place of what is at ``path``. Numbers that JSON lacks become text, such as ``"nan"``.

    Raises:
        OSError: If the file system refuses.
    """
    # Escaped: an argument of a command need not be text, and no encoding has half a character.
    text = json.dumps(_plain(value), indent=1, default=str, allow_nan=False)
    with replacement(path) as file:
        file.write(text.encode() + b"\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what is in the file at ``path``; None if there is none, or something else is in it."""
    try:
        with open_regular(path) as file:
            found: Any = json.loads(file.read())
    # RecursionError: thousands of brackets, which somebody else has put there.
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def path_of_own(folder: Path, name: str, is_own: Callable[[Mapping[str, Any]], bool]) -> Path:
    """Return the path of a file of JSON in ``folder``: the first that is free or one of trainkit's own.

    Args:
        folder: The folder of a run.
        name: The name without its suffix: ``"run"`` for ``run.json``, ``run-v1.json`` and so on.
        is_own: Whether what is in a file was written by trainkit. What somebody else has put there is passed over.
    """
    paths = (folder / each for each in versions(name, ".json"))
    return next(path for path in paths if not path.exists() or is_own(read_json(path) or {}))


def versions(name: str, suffix: str) -> Iterator[str]:
    """Yield the names that a file of trainkit's has beside those of others: ``run.json``, then ``run-v1.json``..."""
    yield f"{name}{suffix}"
    for version in itertools.count(1):
        yield f"{name}-v{version}{suffix}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
