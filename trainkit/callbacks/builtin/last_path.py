"""Where a run keeps its newest state: the folder, and a name in it that is no other run's."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from trainkit.checkpoint.locate import LAST, SUFFIX
from trainkit.errors import FolderInUseError
from trainkit.storage.claim import FolderClaim
from trainkit.storage.files import checkpoint_exists
from trainkit.storage.remote import is_remote

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


def folder_of(trainer: Trainer) -> str:
    """Return the folder of the run, or where a callback saves to a URL, that, since this machine may not last."""
    callbacks = trainer.checkpoint_callbacks
    urls = [each.dirpath for each in callbacks if is_remote(each.dirpath or "")]
    # Where the user has asked for a last.ckpt, it is one file with that; where for a link of that name, not beside it.
    asked_for = [each.dirpath for each in callbacks if each.save_last is True and not each.save_weights_only]
    for folder in (*urls, *asked_for):
        if folder:
            return folder
    # Without a logger a run has no folder of its own.
    root = trainer.default_root_dir
    folder = trainer.log_dir if trainer.loggers else os.path.join(root, "checkpoints")
    folder = folder if is_remote(folder) else os.path.realpath(folder)
    has_link = any(each.save_last == "link" and each.dirpath == folder for each in callbacks)
    return os.path.realpath(root) if has_link else folder


def claim_path(trainer: Trainer, own: Collection[str]) -> tuple[str, FolderClaim]:
    """Return the first of ``last.ckpt``, ``last-v1.ckpt`` ... that is free or this run's own, and a claim on it.

    Args:
        trainer: Whose run it is.
        own: Paths of files that this run has written before.

    Raises:
        FolderInUseError: If a run that has not ended has one of its own files.
    """
    folder = folder_of(trainer)
    # What a callback ranks under such a name is no newest state, though there may be no file yet.
    ranked = {os.path.join(each.dirpath or "", f"{each.filename}{SUFFIX}") for each in trainer.checkpoint_callbacks}
    for name in itertools.chain([LAST], (f"{LAST}-v{version}" for version in itertools.count(1))):
        path = os.path.join(folder, f"{name}{SUFFIX}")
        if path in own or not (path in ranked or checkpoint_exists(path)):
            try:
                # Another run, which has chosen the name and not saved yet, may be in this process: a fit in a hook.
                return path, FolderClaim(folder, f".{name}.lock", alone=True)
            except FolderInUseError:
                if path in own:
                    raise
    raise AssertionError("names do not run out")
