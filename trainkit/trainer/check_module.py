"""Whether what was given to the Trainer is a module that it can run."""

from __future__ import annotations

from typing import Any

import torch

from trainkit.data.combined import LOADERS
from trainkit.data.module import DataModule
from trainkit.errors import ModuleError, nearest_name
from trainkit.hooks.specs import HOOKS, MODULE_METHODS
from trainkit.module import TrainModule
from trainkit.reflection import overrides
from trainkit.types import Stage

STEPS = ("training_step", "validation_step", "test_step", "predict_step")
# The other methods that the loop calls, and that a layer may have been meant to be.
_OVERRIDABLE = ("forward", "backward", "optimizer_step", "optimizer_zero_grad", "lr_scheduler_step")
# How similar a name must be to a step's to be taken for a slip, from 0 to 1. A missing letter gives 0.94 and more, two
# that changed places 0.91; `train_step`, `prediction_step` and `latest_step`, which name helpers too, are below.
_CLOSE = 0.91


def check_module(module: Any, stage: Stage) -> TrainModule:
    """Return ``module`` if it is one.

    Raises:
        ModuleError: If it is not: nothing was given, a class, a plain ``nn.Module``, or something else; or if one of
            its methods has almost the name of a step that it lacks, or a layer that of a method or hook.
    """
    if module is None:
        raise ModuleError(f"trainer.{stage}() needs a module the first time: trainer.{stage}(module, ...).")
    if isinstance(module, type):
        raise ModuleError(
            f"trainer.{stage}() needs an object and was given the class {module.__name__}. Did you mean "
            f"{module.__name__}()?"
        )
    if not isinstance(module, TrainModule):
        if _is_compiled(module):
            # Taken apart and run as it is, it would be compiled no more, and nobody would know.
            raise ModuleError(
                f"trainer.{stage}() was given torch.compile(module). Give the module itself, and "
                "Trainer(compile=True), which compiles its layers."
            )
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
    if "_modules" not in vars(module):
        name = type(module).__name__
        raise ModuleError(f"{name}.__init__ has not called super().__init__(), which has to be its first line.")
    _refuse_misspelt_steps(module)
    _refuse_hidden_layers(module)
    return module


def _refuse_hidden_layers(module: TrainModule) -> None:
    """Raise for a layer that was assigned under the name of a method or hook: Python still finds the class's method."""
    for name, layer in module.named_children():
        is_called = name in STEPS or name in HOOKS or name in MODULE_METHODS
        if is_called or callable(getattr(TrainModule, name, None)):
            instead = f", and write a method {name} that calls it" if is_called or name in _OVERRIDABLE else ""
            raise ModuleError(
                f"{type(module).__name__}.{name} was assigned a {type(layer).__name__}, which torch keeps as a layer, "
                f"so it would not be called. Give the layer another name{instead}."
            )


def _is_compiled(module: Any) -> bool:
    """Whether ``torch.compile`` was called with a `TrainModule`."""
    return type(module).__name__ == "OptimizedModule" and any(
        isinstance(each, TrainModule) for each in module.children()
    )


def _refuse_misspelt_steps(module: TrainModule) -> None:
    """Raise for a method that nothing would call, though it was probably meant to be a step."""
    lacking = [step for step in STEPS if not overrides(module, step, TrainModule)]
    for owner in type(module).__mro__:
        if owner is TrainModule:
            break
        for name, value in vars(owner).items():
            if name in STEPS or name.startswith("_") or not name.lower().endswith("step") or not callable(value):
                continue
            meant = nearest_name(name, lacking, _CLOSE)
            if meant is not None:
                raise ModuleError(
                    f"{owner.__name__}.{name} is named almost like {meant}, which {type(module).__name__} does not "
                    f"have, so nothing would call it. Did you mean {meant!r}? If it is a method of your own, begin its "
                    "name with an underscore."
                )
