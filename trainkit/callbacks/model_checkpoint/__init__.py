"""The callback `ModelCheckpoint`, in four parts.

`triggers` decides when a save is due, `ranking` which checkpoints are kept, `names` what files are called, and
`callback` writes and deletes them at the save points.
"""

from trainkit.callbacks.model_checkpoint.callback import ModelCheckpoint

__all__ = ["ModelCheckpoint"]
