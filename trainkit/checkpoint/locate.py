"""Which file ``ckpt_path`` means: a path, "best", or "last"."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, NamedTuple

from trainkit.checkpoint.head import Head, peek, read_head
from trainkit.checkpoint.state import is_resumable
from trainkit.errors import CheckpointError, CheckpointNotFoundError, ConfigError, nearest_name
from trainkit.output import warn
from trainkit.printable import printable
from trainkit.storage import remote
from trainkit.storage.files import is_folder_of_shards, is_sharded, not_found, read_checkpoint, verify
from trainkit.storage.remote import FilePath, is_remote
from trainkit.storage.sharded.names import MANIFEST

SUFFIX = ".ckpt"
LAST = "last"
"""How the names of the files begin in which runs keep their newest states."""

WORDS = ("best", LAST)
"""What ``ckpt_path`` may be that is no path."""

_ALLOWED = "the path of a checkpoint, 'best', or 'last'"


class Located(NamedTuple):
    """A checkpoint that was found.

    Attributes:
        path: Its path or URL.
        checkpoint: Its content, if it had to be read to be chosen; None if it was not read yet.
    """

    path: str
    checkpoint: dict[str, Any] | None = None


def locate_checkpoint(
    ckpt_path: FilePath | None,
    *,
    roots: Iterable[FilePath],
    best: str | None,
    resumes: bool = False,
    whole: bool = True,
) -> Located | None:
    """Return the checkpoint that ``ckpt_path`` means, or None to start fresh.

    Args:
        ckpt_path: A path, "best" (the best one of this Trainer's `ModelCheckpoint`, or of the newest run), "last" (see
            `newest_checkpoint`; with none a fit starts fresh, with a warning), or None.
        roots: Folders below which to look for "last", and for "best" if this Trainer has not saved any.
        best: The path that this Trainer knows as "best"; None or empty if there is none.
        resumes: Whether a fit is to continue from the checkpoint, for which weights alone are not enough.
        whole: As for `newest_checkpoint`.

    Raises:
        ConfigError: If ``ckpt_path`` is none of these.
        CheckpointNotFoundError: If there is no such file, or "last" is to be evaluated and there is none.
        CheckpointError: If "best" is asked for and there is none, or "last" and all that there are cannot be read.
    """
    if ckpt_path is None:
        return None
    if ckpt_path == "best":
        return Located(best or recorded_best(roots))
    if ckpt_path == "last":
        roots = list(roots)
        newest = newest_checkpoint(roots, resumes=resumes, whole=whole)
        if newest is None:
            places = " or ".join(map(str, roots))
            if not resumes:
                # Figures of weights that nobody trained would look like any others.
                raise CheckpointNotFoundError(
                    f"ckpt_path='last': there is no checkpoint below {places}.\n"
                    "    to do        fit first, or give the path of a checkpoint or the default_root_dir of its run"
                )
            # No error: the same command starts a run, and continues it after it was killed, whether that was before the
            # first save or later.
            warn(f"ckpt_path='last': no checkpoint from which a fit can continue below {places}; starting fresh.")
        return newest
    if not ckpt_path or not isinstance(ckpt_path, str | os.PathLike):
        raise ConfigError(f"ckpt_path={ckpt_path!r} is not usable. Allowed: {_ALLOWED}, or None.")
    path = os.fspath(ckpt_path)
    require_path(path)
    return Located(path)


def require_path(path: str) -> None:
    """Raise `CheckpointNotFoundError` if there is no checkpoint at ``path``, which is none of the words for one."""
    # A remote path is not asked for here: it is fetched when it is read, and missing then.
    if is_remote(path) or not _is_missing(path):
        return
    nearest = nearest_name(path, WORDS)
    hint = f"\n    did you mean   {nearest!r}?" if nearest else ""
    raise CheckpointNotFoundError(f"{not_found(Path(path))}\n    allowed        {_ALLOWED}{hint}")


def _is_missing(path: str) -> bool:
    try:
        return not Path(path).exists()
    except OSError:  # what is wrong with it is said where it is read
        return False


def newest_checkpoint(
    roots: Iterable[FilePath], *, resumes: bool, asked: str = "last", whole: bool = True
) -> Located | None:
    """Return the newest state of the newest run below ``roots`` that can be read; None if there is none.

    The newest run is the one that has written last; of its files the one that is furthest counts, whenever it was
    written: a clock may be put back, and a file that is written in the background may be finished late. Damaged files
    are passed over, with a warning.

    Args:
        roots: Folders or URLs, searched at any depth.
        resumes: Whether to pass over files that hold weights only, from which a fit cannot continue.
        asked: What ``ckpt_path`` was, for messages.
        whole: Whether to read all of what is in a sharded one. It is verified in any case.

    Raises:
        CheckpointError: If there are checkpoints, and all of them are damaged.
    """
    damaged: list[CheckpointError] = []
    for path in _by_run(list(_newest_first(roots)), resumes=resumes):
        try:
            if not whole and is_sharded(path):
                verify(path)
            checkpoint = read_checkpoint(path, map_location="cpu", whole=whole)
        except CheckpointError as error:
            damaged.append(error)
            continue
        if resumes and not is_resumable(checkpoint):
            continue
        # Only now, since the warning names the file that is used instead.
        for reason in damaged:
            warn(f"ckpt_path={asked!r}: {reason}\nUsing {printable(path)} instead.")
        return Located(path, checkpoint)
    # Starting fresh would hide that a run was lost.
    if damaged:
        reasons = "\n".join(f"    {reason}" for reason in damaged)
        raise CheckpointError(
            f"ckpt_path={asked!r}: none of the checkpoints that there are can be read.\n{reasons}\n"
            "    to do        restore one from a backup, or move them away to begin anew"
        )
    return None


def recorded_best(roots: Iterable[FilePath]) -> str:
    """Return the best checkpoint of the newest run below ``roots``, as that run has recorded it.

    Raises:
        CheckpointError: If there is no such run, or it has ranked nothing, or the file is not there any more.
    """
    roots = list(roots)
    places = " or ".join(map(str, roots))
    newest = newest_checkpoint(roots, resumes=True, asked="best", whole=False)
    states = {} if newest is None or newest.checkpoint is None else newest.checkpoint["callbacks"]
    recorded = [state.get("best_model_path") for state in states.values() if isinstance(state, dict)]
    recorded = [path for path in recorded if isinstance(path, str) and path]
    # A path in a file is no more than a name: it counts only if it is one of the files that were found.
    found = [path for path in _newest_first(roots) if path in recorded]
    if found:
        return min(found, key=recorded.index)
    reason = f"{recorded[0]} is not there any more" if recorded else "no run there has saved one"
    raise CheckpointError(
        f"ckpt_path='best' asks for the best checkpoint of this Trainer, or else of the newest run below {places}, and "
        f"{reason}. Fit first, with a ModelCheckpoint among the callbacks, or give the path of a checkpoint."
    )


def any_checkpoint(roots: Iterable[FilePath]) -> bool:
    """Return whether there is a checkpoint below ``roots``, damaged or not."""
    return any(True for _ in _newest_first(roots))


def _by_run(paths: list[str], *, resumes: bool) -> Iterator[str]:
    """Yield ``paths``, which are the newest first, with all files of the newest run ahead, the furthest first.

    Weights that are met on the way and of no use are left out: they may be many, and large.
    """
    for index, path in enumerate(paths):
        head = read_head(path)
        if not head.readable:
            yield path  # whoever reads it says what is wrong with it
        elif head.resumable or not resumes:
            siblings = _siblings(paths[index + 1 :], path, head.run) if head.run else []
            ahead: set[str] = set()
            for other in _furthest_first(path, head, siblings, resumes=resumes):
                ahead.add(other)
                yield other
            yield from (other for other in paths[index:] if other not in ahead)
            return


def _furthest_first(newest: str, head: Head, others: list[str], *, resumes: bool) -> Iterator[str]:
    """Yield the files of one run, the furthest first, and read no more of them than it takes to know which that is.

    Args:
        newest: The file of the run that was written last.
        head: Its head.
        others: Files that may be of that run, the newest first.
        resumes: Whether to pass over weights.
    """
    # A run takes back neither updates nor epochs: what has fewer of them is not further.
    made = {path: peek(path) for path in others}
    unread = sorted(others, key=made.__getitem__)
    places = {path: place for place, path in enumerate([newest, *others])}
    read: list[tuple[tuple[int, ...], int, str]] = []

    def note(path: str, head: Head) -> None:
        made[path] = head.made
        # By position; of files with one state the one that was written last comes first.
        heappush(read, (tuple(-number for number in head.position), places[path], path))

    note(newest, head)
    while read or unread:
        if unread and (not read or made[unread[-1]] >= made[read[0][-1]]):
            path = unread.pop()
            other = read_head(path)
            # Runs below several folders may have one name, and write into one folder.
            is_of_run = (other.run, other.mark) == (head.run, head.mark)
            if is_of_run and (other.resumable or not resumes):
                note(path, other)
        else:
            yield heappop(read)[-1]


def _siblings(paths: list[str], path: str, run: str) -> list[str]:
    """Return those of ``paths`` that may be of the same run as ``path``."""
    # Below the roots there may be thousands of files of other runs, whose heads are not read.
    local = [other for other in paths if not is_remote(other)]
    # Runs of different roots may have one name: then it cannot be told whose file it is.
    newest = [other for other in local if other.endswith(f"{os.sep}{run}".replace("/", os.sep))]
    return [other for other in local if _is_near(other, path) or newest == [other]]


def _is_near(path: str, other: str) -> bool:
    """Whether two files are in one folder, or one is in a folder below that of the other."""
    folders = os.path.dirname(path), os.path.dirname(other)
    return os.path.commonpath(folders) in folders


def _newest_first(roots: Iterable[FilePath]) -> Iterator[str]:
    """Return the paths of all checkpoints below ``roots``, by time of writing."""
    found: dict[str, int] = {}
    for root in roots:
        found |= remote.find(root, SUFFIX) if is_remote(root) else _below(Path(root))
    # The path too, so that the order is the same everywhere if two have the same time.
    return iter(sorted(found, key=lambda path: (found[path], path), reverse=True))


def _below(root: Path) -> dict[str, int]:
    """Return the checkpoints below a folder, and when each was written, in nanoseconds."""
    found: dict[str, int] = {}
    for path in _files_below(root):
        # Another run may delete it meanwhile. A link, such as last.ckpt, counts as the file to which it leads.
        with suppress(FileNotFoundError):
            if path.suffix == SUFFIX and (path.is_file() or is_folder_of_shards(path)):
                found[str(path.resolve())] = _written_ns(path)
    return found


def _files_below(root: Path) -> Iterator[Path]:
    """Yield files and sharded checkpoints at any depth.

    Those in linked folders too: runs are often kept on another disk than the project.
    """
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()  # a link that leads back up
            continue
        seen.add(real)
        sharded = [name for name in folders if name.endswith(SUFFIX) and is_folder_of_shards(Path(folder, name))]
        folders[:] = [name for name in folders if name not in sharded]
        yield from (Path(folder, name) for name in (*names, *sharded))


def _written_ns(path: Path) -> int:
    """Return when a checkpoint was written. A folder is as old as what is written into it last."""
    with suppress(OSError):
        return (path / MANIFEST).stat().st_mtime_ns
    return path.stat().st_mtime_ns
