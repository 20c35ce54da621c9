"""Lightning's ``plugins``."""

from trainkit.compat.lightning.absent import absent_names
from trainkit.compat.lightning.plugins import environments, io, precision
from trainkit.compat.lightning.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision


class LayerSync:
    """The base of `TorchSyncBatchNorm`."""


class TorchSyncBatchNorm(LayerSync):
    """The same as ``Trainer(sync_batchnorm=True)``."""


__all__ = [
    "DoublePrecision",
    "HalfPrecision",
    "LayerSync",
    "MixedPrecision",
    "Precision",
    "TorchSyncBatchNorm",
    "environments",
    "io",
    "precision",
]

__getattr__ = absent_names(__name__, {**precision.ABSENT, **io.ABSENT})
