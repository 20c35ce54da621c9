"""Lightning's vocabulary over trainkit.

Code that was written for Lightning changes ``import lightning.pytorch as pl`` into::

    import trainkit.compat.lightning as pl

and keeps working: modules, data modules, callbacks, loggers and the Trainer call. The modules below have Lightning's
layout and hold trainkit's own classes, with Lightning's arguments where these differ. A name that trainkit does not
have is an error that says what to use instead. ``docs/migrate/lightning.md`` tells what is the same, what differs and
why.
"""

import sys

from trainkit.compat.lightning import (
    accelerators,
    callbacks,
    cli,
    core,
    demos,
    fabric,
    loggers,
    plugins,
    profilers,
    strategies,
    trainer,
    tuner,
    utilities,
)
from trainkit.compat.lightning.absent import absent_names
from trainkit.compat.lightning.absent_modules import AbsentModules
from trainkit.compat.lightning.callbacks import Callback
from trainkit.compat.lightning.core import LightningDataModule, LightningModule
from trainkit.compat.lightning.trainer import Trainer, seed_everything

__version__ = "2.6"
"""The Lightning whose vocabulary this is."""

__all__ = [
    "Callback",
    "LightningDataModule",
    "LightningModule",
    "Trainer",
    "accelerators",
    "callbacks",
    "cli",
    "core",
    "demos",
    "fabric",
    "loggers",
    "plugins",
    "profilers",
    "pytorch",
    "seed_everything",
    "strategies",
    "trainer",
    "tuner",
    "utilities",
]

# For what says `import lightning as L` and `L.pytorch.callbacks`, or `from lightning.pytorch.callbacks import ...`.
pytorch = sys.modules[__name__]
for _name in [name for name in sys.modules if name == __name__ or name.startswith(f"{__name__}.")]:
    sys.modules[_name.replace(__name__, f"{__name__}.pytorch", 1)] = sys.modules[_name]

# From here on, what nobody finds below this package is an error that says what to use instead.
sys.meta_path.append(AbsentModules())

__getattr__ = absent_names(
    __name__,
    {
        "Fabric": "a Trainer; trainkit.strategies and trainkit.precision can be used in a loop of your own",
        "loops": "trainkit.loops, which are functions",
        "serve": "module.to_onnx(...) or torch.export.export",
    },
)
