"""Lightning's ``demos``: the small modules that reports of bugs begin with."""

from trainkit.compat.lightning.absent import absent_names
from trainkit.compat.lightning.demos.boring_classes import (
    BoringDataModule,
    BoringModel,
    ManualOptimBoringModel,
    RandomDataset,
    RandomDictDataset,
    RandomIterableDataset,
)

__all__ = [
    "BoringDataModule",
    "BoringModel",
    "ManualOptimBoringModel",
    "RandomDataset",
    "RandomDictDataset",
    "RandomIterableDataset",
]

_OWN = "a module of your own; tests/programs/ in trainkit's repository has several to begin with"

__getattr__ = absent_names(
    __name__,
    dict.fromkeys(
        (
            "DemoModel",
            "LightningLSTM",
            "LightningTransformer",
            "SequenceSampler",
            "SimpleLSTM",
            "Transformer",
            "WikiText2",
        ),
        _OWN,
    ),
)
