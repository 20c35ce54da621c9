"""TensorBoard: the logger, the event files it writes, and its page of hyperparameters."""

from trainkit.loggers.tensorboard.logger import TensorBoardLogger

__all__ = ["TensorBoardLogger"]
