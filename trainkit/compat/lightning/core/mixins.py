"""What gives a class ``save_hyperparameters``."""

from trainkit.module.hparams import HyperparametersMixin

__all__ = ["HyperparametersMixin"]
