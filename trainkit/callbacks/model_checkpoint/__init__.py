"""The callback `ModelCheckpoint`, in parts.

`triggers` decides when a save is due, `ranking` which checkpoints are kept, and `names` what files are called; `writer`
writes and deletes those that are `own_files`. `callback` puts them together at the save points.
"""

from trainkit.callbacks.model_checkpoint.callback import ModelCheckpoint

__all__ = ["ModelCheckpoint"]
