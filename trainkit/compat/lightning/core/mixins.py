"""What gives a class ``save_hyperparameters``."""

from trainkit.hparams import HyperparametersMixin

__all__ = ["HyperparametersMixin"]
