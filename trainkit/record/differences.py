"""What is not as it was when a run was started before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_FIRST = ("trainkit", "torch")
_MOST_LINES = 8
_MOST_NAMES = 5


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between two starts of a run, in few lines: what is most likely to matter comes first."""
    lines = [*_of_packages(before, now), *_of_parts(before, now), *_of_repositories(before, now)]
    if len(lines) > _MOST_LINES:
        left_out = len(lines) - _MOST_LINES + 1
        lines[_MOST_LINES - 1 :] = [f"and {left_out} more"]
    return lines


def _of_packages(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if before.get("python") != now.get("python"):
        yield f"python {before.get('python')} -> {now.get('python')}"
    old, new = _dict(before, "packages"), _dict(now, "packages")
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    parts = {part.get("distribution") for start in (before, now) for part in _parts(start).values()}
    for name in changed:
        if name in parts or name in _FIRST:
            yield f"{name} {old.get(name, '(none)')} -> {new.get(name, '(none)')}"
    others = [name for name in changed if name not in parts and name not in _FIRST]
    if others:
        more = f" and {len(others) - _MOST_NAMES} more" if len(others) > _MOST_NAMES else ""
        yield f"other packages: {', '.join(others[:_MOST_NAMES])}{more}"


def _of_parts(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    old, new = _parts(before), _parts(now)
    packages = [_dict(start, "packages") for start in (before, now)]
    for name in {**old, **new}:
        if name not in new:
            yield f"{name} ({old[name].get('target')}) is missing"
        elif name not in old:
            yield f"{name} ({new[name].get('target')}) is new"
        elif old[name].get("target") != new[name].get("target"):
            yield f"{name} is {new[name].get('target')}, and was {old[name].get('target')}"
    changed: dict[str, list[str]] = {}  # names by file
    for name in filter(new.__contains__, old):
        distribution = str(new[name].get("distribution"))
        # Of a package of another version, which is told, the files differ as a matter of course.
        is_told = packages[0].get(distribution) != packages[1].get(distribution)
        if old[name].get("sha256") != new[name].get("sha256") and not is_told:
            changed.setdefault(str(new[name].get("file")), []).append(name)
    for file, names in changed.items():
        yield f"the file of {', '.join(sorted(names))} has changed: {file}"


def _of_repositories(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    old, new = _dict(before, "repository"), _dict(now, "repository")
    if not old or not new:
        return  # of one of them nothing is known
    if old.get("commit") != new.get("commit"):
        yield f"commit {str(old.get('commit'))[:10]} -> {str(new.get('commit'))[:10]}"
    if old.get("patch") != new.get("patch"):
        yield f"changes that are not committed: {old.get('patch') or 'none'} -> {new.get('patch') or 'none'}"


def _parts(start: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = start.get("parts")
    parts = found if isinstance(found, list) else []
    return {str(part["name"]): part for part in parts if isinstance(part, dict) and "name" in part}


def _dict(start: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = start.get(name)
    return found if isinstance(found, dict) else {}
