"""The state of a git repository: its commit, and what is not committed."""

from __future__ import annotations

import os
import signal
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

_DIFF = (
    # Nothing that the configuration of git says changes what `git apply` has to read.
    *("diff", "HEAD", "--src-prefix=a/", "--dst-prefix=b/", "--no-relative", "--no-renames", "--submodule=short"),
    *("--ignore-submodules=dirty", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv"),
)
_LINES = ("--binary", "-U3")
_STATUS = ("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", "--ignore-submodules=dirty")

_KEPT = ("GIT_CONFIG_", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM")
"""Variables of git that say whom to trust and how far to look, and not which repository is meant."""


@dataclass(frozen=True, slots=True)
class Repository:
    """What git says of a folder.

    Attributes:
        commit: The commit that is checked out.
        patch: What ``git apply`` makes of the commit what is there; empty if all is committed.
        is_cut: Whether there was more of it than `LONGEST_PATCH`, or git was not done in time.
        left_out: Binary files that would have made the patch too long, and are not in it.
        untracked: The files and folders that git does not know and was not told to ignore, as seen from the root.
    """

    commit: str
    patch: bytes
    is_cut: bool
    left_out: list[str]
    untracked: list[str]


def repository_of(folder: Path) -> Repository | None:
    """Return the state of the repository that ``folder`` is in; None if there is none, or git is absent or hangs."""
    deadline = time.monotonic() + TIMEOUT_S
    status = _git(folder, _LONGEST_STATUS, deadline, *_STATUS)
    if status is None:
        return None
    entries = status.decode(errors="surrogateescape").split("\0")
    commit = next((each.split()[-1] for each in entries if each.startswith("# branch.oid ")), "")
    if not commit.isalnum():  # (initial), where nothing is committed yet
        return None
    is_changed = any(each[:2] in ("1 ", "2 ", "u ") for each in entries)
    patch, left_out = _patch(folder, deadline) if is_changed else (b"", [])
    untracked = [each[2:] for each in entries if each.startswith("? ")]
    is_cut = patch is None or len(patch) > LONGEST_PATCH
    return Repository(commit, (patch or b"")[:LONGEST_PATCH], is_cut, left_out[:_MOST_NAMES], untracked[:_MOST_NAMES])


def _patch(folder: Path, deadline: float) -> tuple[bytes | None, list[str]]:
    """Return what is not committed, and the binary files without which alone it is short enough."""
    # Large binary files may take all of the time.
    half = (time.monotonic() + deadline) / 2
    whole = _git(folder, LONGEST_PATCH + 1, half, *_DIFF, *_LINES)
    if whole is not None and len(whole) <= LONGEST_PATCH:
        return whole, []
    counts = _git(folder, _LONGEST_STATUS, deadline, *_DIFF, "--numstat", "-z") or b""
    lines = (line.split("\t", 2) for line in counts.decode(errors="surrogateescape").split("\0") if line)
    binary = [path for added, _, path in lines if added == "-"]
    if not binary:
        return whole, []
    others = (":(top)", *(f":(top,exclude,literal){path}" for path in binary))
    return _git(folder, LONGEST_PATCH + 1, deadline, *_DIFF, *_LINES, "--", *others), binary


def _git(folder: Path, limit: int, deadline: float, *arguments: str) -> bytes | None:
    """Return what git prints, ``limit`` bytes at most; None if it fails, or is not done in time."""
    # No locks, over which a command of the user's would stumble; and no program that the repository names is run.
    # A file of orders that is gone fails both commands.
    settings = ("-c", "core.fsmonitor=false", "-c", "diff.orderFile=/dev/null")
    command = ["git", "-C", str(folder), "--no-optional-locks", *settings, *arguments]
    # A hook of git, or a tool, may have set GIT_DIR and the like, which name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}
    # Not a pipe: reading from it, nobody can stop waiting for a git that hangs.
    with tempfile.TemporaryFile() as output:
        try:
            # A session of its own, since Ctrl-C goes to all of one.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError:
            return None
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _kill(process)
            return None
        output.seek(0)
        return output.read(limit) if code == 0 else None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill git, and the filters that it has started, which hold the output open."""
    if hasattr(os, "killpg"):
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    with suppress(subprocess.TimeoutExpired):  # it hangs in the kernel, as on a file system that is gone
        process.wait(1.0)
