"""trainkit: a plugin-based training framework for PyTorch.

The names below are imported when they are first used, so that ``import trainkit`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from trainkit import start_folder as start_folder  # noted now: the program may change its folder

if TYPE_CHECKING:
    from trainkit import (
        callbacks,
        config,
        data,
        errors,
        hooks,
        loggers,
        metrics,
        precision,
        profilers,
        strategies,
        testing,
    )
    from trainkit.config import from_config
    from trainkit.data.combined import CombinedLoader
    from trainkit.data.module import DataModule
    from trainkit.errors import TrainkitError
    from trainkit.hooks.callback import Callback
    from trainkit.hooks.specs import hookimpl
    from trainkit.module import TrainModule
    from trainkit.module.joint_optimizer import JointOptimizer
    from trainkit.module.split_parameters import split_parameters
    from trainkit.seed import isolate_rng, seed_everything
    from trainkit.trainer import Trainer
    from trainkit.types import Phase, Stage

__version__ = "0.1.0"

__all__ = [
    "Callback",
    "CombinedLoader",
    "DataModule",
    "JointOptimizer",
    "Phase",
    "Stage",
    "TrainModule",
    "Trainer",
    "TrainkitError",
    "__version__",
    "callbacks",
    "config",
    "data",
    "errors",
    "from_config",
    "hookimpl",
    "hooks",
    "isolate_rng",
    "loggers",
    "metrics",
    "precision",
    "profilers",
    "seed_everything",
    "split_parameters",
    "strategies",
    "testing",
]

_HOME_OF = {
    "Callback": "hooks.callback",
    "CombinedLoader": "data.combined",
    "DataModule": "data.module",
    "JointOptimizer": "module.joint_optimizer",
    "split_parameters": "module.split_parameters",
    "Phase": "types",
    "Stage": "types",
    "TrainModule": "module",
    "Trainer": "trainer",
    "TrainkitError": "errors",
    "from_config": "config",
    "hookimpl": "hooks.specs",
    "isolate_rng": "seed",
    "seed_everything": "seed",
}


# A function that gives anything would hide misspelt names from type checkers, which know all of them from above.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _HOME_OF:
            value = getattr(importlib.import_module(f"trainkit.{_HOME_OF[name]}"), name)
        elif name in __all__:
            value = importlib.import_module(f"trainkit.{name}")
        else:
            raise AttributeError(f"module 'trainkit' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
