"""A JSON file that holds names with values: written whole or not at all, read as data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
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


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
