"""All samples of a loader, for predictions: those of a last batch that is short are not left out."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

from trainkit.data.combined import CombinedLoader
from trainkit.data.dataloader_copy import has_own_batches, keeping_last
from trainkit.data.tensors import TensorLoader
from trainkit.output import warn


def with_all_samples(loader: Any) -> Any:
    """Return ``loader``, or a copy of it without ``drop_last=True``. In a `CombinedLoader` each one is looked at."""
    if isinstance(loader, CombinedLoader):
        return loader.map(with_all_samples)
    if isinstance(loader, TensorLoader):
        return loader.keeping_last() if loader.drop_last else loader
    if not isinstance(loader, DataLoader):
        return loader
    if loader.batch_sampler is not None and has_own_batches(loader):
        if getattr(loader.batch_sampler, "drop_last", False):
            warn(
                f"{type(loader.batch_sampler).__name__} has drop_last=True, so samples may be left without a "
                "prediction. Make it with drop_last=False.",
            )
        return loader
    return keeping_last(loader) if loader.drop_last or getattr(loader.batch_sampler, "drop_last", False) else loader
