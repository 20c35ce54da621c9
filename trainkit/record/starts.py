"""``run.json``: what a run was made with, at its first start and at each one that went on from there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainkit.record.json_file import path_of_own, read_json, versions, write_json
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


def add_start(folder: Path, start: Mapping[str, Any], *, again: bool = False) -> Path:
    """Add a start to ``run.json``, and return the path. What is as at the start before is not written again.

    A file of that name that is none of a run is left as it is: then it is ``run-v1.json``.

    Args:
        folder: The folder of the run.
        start: What is known of the start.
        again: Whether it was added before, when less was known. Then it is written in the place of that.

    Raises:
        OSError: If the file system refuses.
    """
    path = _path_in(folder)
    before, written = starts_in(folder), (read_json(path) or {}).get(_STARTS, [])
    if again:
        before, written = before[:-1], written[:-1]
    same = before[-1] if before else {}
    added = {name: value for name, value in start.items() if name not in same or same[name] != value}
    write_json(path, {_STARTS: [*written, added]})
    return path


def add_patch(folder: Path, patch: bytes) -> str:
    """Write what is not committed to ``changes.patch``, and return the name: another one if that has other changes.

    Raises:
        OSError: If the file system refuses.
    """
    for name in versions(PATCH, ".patch"):
        path = folder / name
        if not os.path.lexists(path):
            with replacement(path) as file:
                file.write(patch)
        elif not path.is_file() or path.read_bytes() != patch:
            continue
        return name
    raise AssertionError("names do not run out")


def _path_in(folder: Path) -> Path:
    return path_of_own(folder, NAME, _is_record)


def _is_record(found: Mapping[str, Any]) -> bool:
    starts = found.get(_STARTS)
    return isinstance(starts, list) and all(isinstance(each, dict) for each in starts)
