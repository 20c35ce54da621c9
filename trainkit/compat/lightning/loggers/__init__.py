"""Lightning's ``loggers``."""

from trainkit.compat.lightning.absent import absent_names
from trainkit.compat.lightning.loggers.csv_logs import CSVLogger
from trainkit.compat.lightning.loggers.logger import Logger
from trainkit.compat.lightning.loggers.tensorboard import TensorBoardLogger

__all__ = ["CSVLogger", "Logger", "TensorBoardLogger"]

_OWN = (
    "TensorBoardLogger or CSVLogger, or a subclass of Logger whose log_metrics calls the service's client; a logger "
    "for it comes with a later version of trainkit"
)

__getattr__ = absent_names(
    __name__,
    dict.fromkeys(("CometLogger", "LitLogger", "MLFlowLogger", "NeptuneLogger", "WandbLogger"), _OWN),
)
