"""Lightning's ``core``: modules and data modules."""

from trainkit.compat.lightning.core import hooks, mixins, optimizer
from trainkit.compat.lightning.core.datamodule import LightningDataModule
from trainkit.compat.lightning.core.module import LightningModule

__all__ = ["LightningDataModule", "LightningModule", "hooks", "mixins", "optimizer"]
