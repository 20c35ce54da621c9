"""Modules that Lightning has and this package has not: importing one is an error that says what to use instead."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Never

from trainkit.compat.lightning.absent import LATER_LOGGER, LATER_STRATEGY, LATER_TUNER, TORCHRUN
from trainkit.errors import UnsupportedImportError, nearest_name

PACKAGE = "trainkit.compat.lightning"

INSTEAD = {
    "callbacks.batch_size_finder": LATER_TUNER,
    "callbacks.lr_finder": LATER_TUNER,
    "fabric.plugins": TORCHRUN,
    "fabric.strategies": "trainkit.compat.lightning.strategies",
    "fabric.wrappers": "nothing: modules and optimizers are not wrapped",
    "loggers.comet": LATER_LOGGER,
    "loggers.litlogger": LATER_LOGGER,
    "loggers.mlflow": LATER_LOGGER,
    "loggers.neptune": LATER_LOGGER,
    "loggers.wandb": LATER_LOGGER,
    "loops": "trainkit.loops, which are functions; trainer.fit_loop has the counters and limits",
    "overrides": "nothing: the strategies wrap the module themselves",
    "serve": "module.to_onnx(...) or torch.export.export",
    "strategies.deepspeed": LATER_STRATEGY,
    "strategies.launchers": TORCHRUN,
    "trainer.call": "nothing: hooks are called by the loops, and plugins join them by name",
    "trainer.connectors": "nothing: there are no connectors; the Trainer's public properties have what is known",
    "tuner": LATER_TUNER,
    "utilities.argparse": "argparse, and Trainer(**vars(arguments))",
    "utilities.deepspeed": LATER_STRATEGY,
    "utilities.imports": "importlib.util.find_spec(name)",
    "utilities.migration": "trainkit checkpoint convert OLD NEW --trust",
    "utilities.upgrade_checkpoint": "trainkit checkpoint convert OLD NEW --trust",
}


class AbsentModules(MetaPathFinder):
    """Is asked last, when nobody has found a module or a name below this package."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Raise for what is below this package; any other module is the affair of others."""
        if fullname.startswith(f"{PACKAGE}."):
            raise_absent(fullname.removeprefix(f"{PACKAGE}.").removeprefix("pytorch."))


def raise_absent(name: str) -> Never:
    """Raise `UnsupportedImportError` for ``name``, which is relative to this package."""
    place = name
    while place:
        if place in INSTEAD:
            raise UnsupportedImportError(f"lightning.{name}", INSTEAD[place])
        place = place.rpartition(".")[0]
    parent, _, own = name.rpartition(".")
    module = sys.modules[f"{PACKAGE}.{parent}" if parent else PACKAGE]
    names: list[str] = getattr(module, "__all__", [])
    nearest = nearest_name(own, names)
    hint = f"{nearest}, if that was meant" if nearest else f"what is in {module.__name__}: {', '.join(names)}"
    raise UnsupportedImportError(f"lightning.{name}", hint)
