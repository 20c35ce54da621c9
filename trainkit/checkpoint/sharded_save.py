"""Saving a checkpoint of which each rank has a part: together, at once or while training continues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from trainkit.checkpoint.background import BackgroundJob, snapshot
from trainkit.errors import CheckpointError, CheckpointWriteError, TrainkitError, note_on
from trainkit.storage.remote import FilePath
from trainkit.storage.sharded.writer import ShardedWrite
from trainkit.strategies.base import Strategy

Finish = Callable[[ShardedWrite], None]
"""Called on rank 0 when all ranks have written: makes it visible, and does what comes after."""


def save_sharded(
    checkpoint: dict[str, Any],
    path: FilePath,
    strategy: Strategy,
    finish: Finish,
    background: BackgroundJob | None = None,
) -> None:
    """Save ``checkpoint``, which has sharded tensors in it. Every rank has to call this.

    Args:
        checkpoint: What to save. All that is not sharded is that of rank 0.
        path: Where to.
        strategy: That of the ranks.
        finish: See `Finish`.
        background: In which the files are written, on each rank, and `finish` is called; None does so at once.

    Raises:
        CheckpointWriteError: On every rank, if the file system refuses on one; what there was is untouched. With
            ``background``, what is refused later is raised there, on rank 0.
        CheckpointError: On every rank, if something in it could not be loaded safely.
    """
    write = ShardedWrite(checkpoint, strategy.rank)
    try:
        _plan(write, path, strategy, copies=background is not None)
        if background is None:
            _finish(write, strategy.all_gather_object(_attempted(write.write)), strategy, finish)
        else:
            _start(write, strategy, finish, background)
    except BaseException:
        write.discard()
        raise


def _plan(write: ShardedWrite, path: FilePath, strategy: Strategy, *, copies: bool) -> None:
    """Agree with the other ranks on who writes what."""
    begun = strategy.agreed(lambda: write.begin(path))
    plans = strategy.all_gather_object(_attempted(lambda: write.plan(begun)))
    _raise_failed(plans)
    write.settle(plans, copies=copies)


def _finish(write: ShardedWrite, written: Sequence[Any], strategy: Strategy, finish: Finish) -> None:
    _raise_failed(written)
    write.collect(written)
    strategy.agreed(lambda: finish(write))


def _start(write: ShardedWrite, strategy: Strategy, finish: Finish, background: BackgroundJob) -> None:
    """Write in a thread on each rank. That of rank 0 hears from the others when they are done, and finishes."""
    if strategy.is_global_zero:
        # What is sharded was copied with the plan. The rest is written as it is now.
        write.rest = snapshot(write.rest)
    board = strategy.ranks.open_board() if strategy.is_distributed else None

    def job() -> None:
        own = _attempted(write.write)
        try:
            if not strategy.is_global_zero:
                if board is not None:
                    with suppress(Exception):  # rank 0, who would want to know, may have ended
                        board.tell(own)
                return
            written = [own] if board is None else [own, *board.hear()]
            _raise_failed(written)
            write.collect(written)
            finish(write)
        except BaseException:
            write.discard()
            raise

    background.start(job)


def _attempted(step: Callable[[], Any]) -> Any:
    """Return what ``step`` returns, or the error that it raises, to be told to the other ranks."""
    try:
        return step()
    except TrainkitError as error:
        return error


def _raise_failed(outcomes: Sequence[Any]) -> None:
    """Raise the first error among the ``outcomes`` of all ranks, with its rank, and the others as notes."""
    failed = [(rank, outcome) for rank, outcome in enumerate(outcomes) if isinstance(outcome, TrainkitError)]
    if not failed:
        return
    rank, first = failed[0]
    kind = type(first) if isinstance(first, CheckpointError) else CheckpointWriteError
    error = kind(f"on rank {rank}: {first}" if len(outcomes) > 1 else str(first))
    if isinstance(error, CheckpointWriteError):
        error.errno = getattr(first, "errno", None)
    for other, also in failed[1:]:
        note_on(error, f"on rank {other}: {also}")
    raise error
