"""Lightning's ``trainer``."""

from trainkit.compat.lightning.trainer import states
from trainkit.compat.lightning.trainer.trainer import Trainer
from trainkit.compat.lightning.utilities.seed import seed_everything

__all__ = ["Trainer", "seed_everything", "states"]
