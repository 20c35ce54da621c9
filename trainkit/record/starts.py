"""``run.json``: what a run was made with, at its first start and at each one that went on from there."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainkit.record.json_file import read_json, write_json
from trainkit.storage.temporary import replacement

NAME = "run"
PATCH = "changes"

_STARTS = "starts"


def starts_in(folder: Path) -> list[dict[str, Any]]:
    """Return the starts of the run that has written into ``folder``, the oldest first, each with all that it had."""
    found = read_json(_path_in(folder)) or {}
    starts: list[dict[str, Any]] = []
    for start in found.get(_STARTS, ()):
        starts.append({**(starts[-1] if starts else {}), **start})
    return starts


def add_start(folder: Path, start: Mapping[str, Any]) -> Path:
    """Add a start to ``run.json``, and return the path. What is as at the start before is not written again.

    A file of that name that is none of a run is left as it is: then it is ``run-v1.json``.

    Raises:
        OSError: If the file system refuses.
    """
    path = _path_in(folder)
    before = starts_in(folder)
    same = before[-1] if before else {}
    added = {name: value for name, value in start.items() if name not in same or same[name] != value}
    written = (read_json(path) or {}).get(_STARTS, [])
    write_json(path, {_STARTS: [*written, added]})
    return path


def add_patch(folder: Path, patch: bytes) -> str:
    """Write what is not committed to ``changes.patch``, and return the name: another one if that has other changes.

    Raises:
        OSError: If the file system refuses.
    """
    for name in _names(PATCH, ".patch"):
        path = folder / name
        if not os.path.lexists(path):
            with replacement(path) as file:
                file.write(patch)
        elif not path.is_file() or path.read_bytes() != patch:
            continue
        return name
    raise AssertionError("names do not run out")


def _path_in(folder: Path) -> Path:
    """Return the path of the record in ``folder``: the first that is free or one."""
    paths = (folder / name for name in _names(NAME, ".json"))
    return next(path for path in paths if not path.exists() or _is_record(read_json(path)))


def _is_record(found: Mapping[str, Any] | None) -> bool:
    starts = (found or {}).get(_STARTS)
    return isinstance(starts, list) and all(isinstance(each, dict) for each in starts)


def _names(name: str, suffix: str) -> itertools.chain[str]:
    return itertools.chain([f"{name}{suffix}"], (f"{name}-v{version}{suffix}" for version in itertools.count(1)))
