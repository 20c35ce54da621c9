"""The checkpoint that a call starts from: found by rank 0, read by all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from trainkit.checkpoint.locate import Located, locate_checkpoint
from trainkit.checkpoint.migrate import migrate
from trainkit.loggers.logger import LOGGED, loggers_of
from trainkit.module.from_checkpoint import require_weights
from trainkit.storage.files import is_sharded, read_checkpoint, verify

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


def find_checkpoint(trainer: Trainer, ckpt_path: str | os.PathLike[str] | None, *, resumes: bool) -> Located | None:
    """Return the checkpoint that ``ckpt_path`` means, the same on all ranks; None to start fresh.

    Args:
        trainer: Whose roots and callbacks tell where to look.
        ckpt_path: A path, "last", "best", or None.
        resumes: Whether a fit is to continue from it.
    """
    strategy = trainer.strategy
    best = getattr(trainer.checkpoint_callback, "best_model_path", None)
    found: list[Located] = []

    def locate() -> str | None:
        located = locate_checkpoint(
            ckpt_path, roots=trainer.checkpoint_roots, best=best, resumes=resumes, whole=not strategy.shards
        )
        if located and located.checkpoint is None and strategy.is_distributed and is_sharded(located.path):
            verify(located.path)  # by one for all: a rank that finds damage in its own part leaves the others waiting
        found.extend([located] if located else [])
        return located.path if located else None

    # Rank 0 looks, since ranks may see different files; those that did not look read what it found.
    path = strategy.agreed(locate)
    if path is None:
        return None
    return found[0] if found else Located(path)


def read_located(located: Located, *, whole: bool = True) -> dict[str, Any]:
    """Return what is in the file, in today's format.

    Args:
        located: The file.
        whole: Whether to read all of what is in a sharded one.
    """
    checkpoint = located.checkpoint
    if checkpoint is None:
        checkpoint = read_checkpoint(located.path, map_location="cpu", whole=whole)
    checkpoint = migrate(checkpoint, located.path)
    require_weights(checkpoint, located.path)
    return checkpoint


def continue_loggers(trainer: Trainer, path: str, checkpoint: dict[str, Any]) -> None:
    """Let the loggers go on in the folder of the run that has saved ``checkpoint`` at ``path``."""
    for logger in loggers_of(trainer):
        logger.default_to(trainer.default_root_dir)
        logger.continue_run(path, checkpoint.get("trainkit", {}).get(LOGGED, ()))
