"""`OnExceptionCheckpoint`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trainkit.compat.lightning.callbacks.checkpoint import Checkpoint
from trainkit.errors import ConfigError
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class OnExceptionCheckpoint(Checkpoint):
    """Saves a checkpoint when an exception ends a fit, in the middle of a batch, whose random numbers are spent.

    Args:
        dirpath: The folder.
        filename: The file's name, without ``.ckpt``. A file that is there is overwritten.

    Raises:
        ConfigError: If the name is empty.
    """

    FILE_EXTENSION = ".ckpt"

    def __init__(self, dirpath: str | os.PathLike[str], filename: str = "on_exception") -> None:
        if not filename:
            raise ConfigError("OnExceptionCheckpoint: filename is empty.")
        self.dirpath = dirpath
        self.filename = filename

    @property
    def ckpt_path(self) -> str:
        """Where it saves."""
        return os.path.join(self.dirpath, self.filename + self.FILE_EXTENSION)

    def on_exception(self, trainer: Trainer, exception: BaseException) -> None:
        if trainer.state.fn is Stage.FIT:
            trainer.save_checkpoint(self.ckpt_path)
