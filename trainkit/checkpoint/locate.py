"""Which file ``ckpt_path`` means: a path, "best", or "last"."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from trainkit.errors import CheckpointError, CheckpointNotFoundError


def newest_checkpoint(root: str | os.PathLike[str]) -> Path | None:
    """Return the checkpoint under ``root`` that was written last, of whatever run; None if there is none."""
    found = [path for path in Path(root).glob("**/*.ckpt") if path.is_file()]
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name == "last.ckpt"), default=None)


def locate_checkpoint(ckpt_path: str | os.PathLike[str] | None, *, root: str, best: str | None) -> Path | None:
    """Return the file that ``ckpt_path`` means, or None to start fresh.

    Args:
        ckpt_path: A path, "best" (the best one of this Trainer's `ModelCheckpoint`), "last" (the newest under ``root``;
            with none there the run starts fresh, with a warning), or None.
        root: Where to look for "last".
        best: What "best" means; None or empty if there is none.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CheckpointError: If "best" is asked for and there is none.
    """
    if ckpt_path is None:
        return None
    if ckpt_path == "best":
        if not best:
            raise CheckpointError(
                "ckpt_path='best' asks for the best checkpoint of this Trainer, and it has saved none. Fit first, "
                "with a ModelCheckpoint among the callbacks, or give the path of a checkpoint."
            )
        return Path(best)
    if ckpt_path == "last":
        newest = newest_checkpoint(root)
        if newest is None:
            warnings.warn(f"ckpt_path='last': there is no checkpoint under {root}; starting fresh.", stacklevel=3)
        return newest
    path = Path(ckpt_path)
    if not path.exists():
        raise CheckpointNotFoundError(
            f"there is no checkpoint at {path}. Allowed for ckpt_path: the path of a checkpoint, 'best', or 'last'."
        )
    return path
