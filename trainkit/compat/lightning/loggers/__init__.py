"""Lightning's ``loggers``."""

from trainkit.compat.lightning.absent import LATER_LOGGER, absent_names
from trainkit.compat.lightning.loggers.csv_logs import CSVLogger
from trainkit.compat.lightning.loggers.logger import Logger
from trainkit.compat.lightning.loggers.tensorboard import TensorBoardLogger

__all__ = ["CSVLogger", "Logger", "TensorBoardLogger"]

__getattr__ = absent_names(
    __name__,
    dict.fromkeys(("CometLogger", "LitLogger", "MLFlowLogger", "NeptuneLogger", "WandbLogger"), LATER_LOGGER),
)
