"""The Trainer. Read ``trainer.py`` first, then ``call.py``: what happens around one loop."""

from trainkit.trainer.trainer import Trainer

__all__ = ["Trainer"]
