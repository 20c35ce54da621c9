"""`TrainModule`, and what belongs to it: hyperparameters, building from a checkpoint, optimizers, export."""

from trainkit.module.train_module import TrainModule

__all__ = ["TrainModule"]
