"""Loggers: plugins that write the rows of metrics of a run, imported when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainkit.loggers.csv import CSVLogger
    from trainkit.loggers.logger import Logger
    from trainkit.loggers.queued import QueuedLogger
    from trainkit.loggers.tensorboard import TensorBoardLogger

__all__ = ["CSVLogger", "Logger", "QueuedLogger", "TensorBoardLogger"]

# The files are imported on first use, so that importing the package does not import torch.
_HOME_OF = {"CSVLogger": "csv", "Logger": "logger", "QueuedLogger": "queued", "TensorBoardLogger": "tensorboard"}


# A function that gives anything would hide misspelt names from type checkers, which know all of them from above.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'trainkit.loggers' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"trainkit.loggers.{_HOME_OF[name]}"), name)
        globals()[name] = value  # the next access does not come here
        return value


def __dir__() -> list[str]:
    return __all__
