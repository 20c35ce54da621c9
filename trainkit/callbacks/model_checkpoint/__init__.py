"""`ModelCheckpoint`.

When it saves is in ``triggers.py``, what it keeps in ``ranking.py``, and what files are called in ``names.py``.
"""

from trainkit.callbacks.model_checkpoint.callback import ModelCheckpoint

__all__ = ["ModelCheckpoint"]
