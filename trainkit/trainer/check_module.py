"""Whether what was given to the Trainer is a module that it can run."""

from __future__ import annotations

from typing import Any

import torch

from trainkit.data.combined import LOADERS
from trainkit.data.module import DataModule
from trainkit.errors import ModuleError
from trainkit.module import TrainModule
from trainkit.types import Stage


def check_module(module: Any, stage: Stage) -> TrainModule:
    """Return ``module`` if it is one.

    Raises:
        ModuleError: If it is not: nothing was given, a class, a plain ``nn.Module``, or something else.
    """
    if module is None:
        raise ModuleError(f"trainer.{stage}() needs a module the first time: trainer.{stage}(module, ...).")
    if isinstance(module, type):
        raise ModuleError(
            f"trainer.{stage}() needs an object and was given the class {module.__name__}. Did you mean "
            f"{module.__name__}()?"
        )
    if not isinstance(module, TrainModule):
        # Keras and scikit-learn take the data first.
        if isinstance(module, (*LOADERS, DataModule, list)):
            raise ModuleError(
                f"trainer.{stage}() was given a {type(module).__name__} as its module. The module comes first: "
                f"trainer.{stage}(module, ...)."
            )
        kind = "a torch.nn.Module, but no TrainModule" if isinstance(module, torch.nn.Module) else "no TrainModule"
        raise ModuleError(
            f"trainer.{stage}() was given a {type(module).__name__}, which is {kind}. Subclass trainkit.TrainModule."
        )
    return module
