"""`LightningDataModule`: a `DataModule` with Lightning's names."""

from __future__ import annotations

from trainkit.compat.lightning.core.hooks import DataHooks
from trainkit.data.module import DataModule


class LightningDataModule(DataModule, DataHooks):
    """A `DataModule`, with the attributes that Lightning's has."""

    name: str | None = None
