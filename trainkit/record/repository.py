"""The state of a git repository: its commit, and what is not committed."""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 5.0
"""How long git may take for all that it is asked. What it has not said by then is not recorded."""

LONGEST_PATCH = 2**20
"""How many bytes of changes are kept."""

_MOST_NAMES = 100
_LONGEST_STATUS = 2**22


@dataclass(frozen=True, slots=True)
class Repository:
    """What git says of a folder.

    Attributes:
        commit: The commit that is checked out.
        patch: What ``git diff HEAD`` prints; empty if all is committed.
        is_cut: Whether there was more of it than `LONGEST_PATCH`.
        untracked: The files and folders that git does not know and was not told to ignore, as seen from the root.
    """

    commit: str
    patch: bytes
    is_cut: bool
    untracked: list[str]


def repository_of(folder: Path) -> Repository | None:
    """Return the state of the repository that ``folder`` is in; None if there is none, or git is absent or hangs."""
    deadline = time.monotonic() + TIMEOUT_S
    status = _git(folder, _LONGEST_STATUS, deadline, "status", "--porcelain=v2", "--branch", "-z")
    if status is None:
        return None
    entries = status.decode(errors="surrogateescape").split("\0")
    commit = next((each.split()[-1] for each in entries if each.startswith("# branch.oid ")), "")
    if not commit.isalnum():  # (initial), where nothing is committed yet
        return None
    is_changed = any(each[:2] in ("1 ", "2 ", "u ") for each in entries)
    arguments = ("diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv")
    patch = (_git(folder, LONGEST_PATCH + 1, deadline, *arguments) or b"") if is_changed else b""
    untracked = [each[2:] for each in entries if each.startswith("? ")]
    return Repository(commit, patch[:LONGEST_PATCH], len(patch) > LONGEST_PATCH, untracked[:_MOST_NAMES])


def _git(folder: Path, limit: int, deadline: float, *arguments: str) -> bytes | None:
    """Return what git prints, ``limit`` bytes at most; None if it fails, or is not done in time."""
    # No locks, over which a command of the user's would stumble; and no program that the repository names is run.
    command = ["git", "-C", str(folder), "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    # Not a pipe: reading from it, nobody can stop waiting for a git that hangs.
    with tempfile.TemporaryFile() as output:
        try:
            # A session of its own, since Ctrl-C goes to all of one.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return None
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            with suppress(subprocess.TimeoutExpired):  # it hangs in the kernel, as on a file system that is gone
                process.wait(1.0)
            return None
        output.seek(0)
        return output.read(limit) if code == 0 else None
