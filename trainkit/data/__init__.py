"""Loaders, data modules, and the position of a run in its data.

Read first:

1. ``loaders.py``: `LimitedLoader`, a loader as a loop sees it: numbered batches, the last of them marked as such
2. ``resume/cursors.py``: how each kind of loader finds its place again in the middle of an epoch
3. ``sampler.py``: how the samples of a loader are dealt to several ranks

The others, as far as one needs them:

====================  ==================================================================================================
module.py             `DataModule`: datasets and loaders in one place, apart from the model
tensors.py            `TensorLoader`: batches of tensors that are in memory
combined.py           `CombinedLoader`: several loaders iterated as one; what counts as a loader
fit_loaders.py        the loaders of a fit, made again every n epochs if asked for
sharded_iterable.py   `ShardedIterable`: an iterable that is dealt to ranks and workers
overfit.py            ``overfit_batches``: the same batches in every epoch
dataloader_copy.py    a DataLoader with another sampler
counter.py            counts the items that pass through an iterator
wait_meter.py         measures how long training waits for batches, and advises; any `Meter` (``meter.py``) may
resume/               the position of each kind of loader; it has a map of its own
====================  ==================================================================================================

``trainkit/batch`` brings a batch to the device; ``trainkit/trainer`` decides which loaders a call of the Trainer uses.
"""

from __future__ import annotations

from trainkit.data.combined import CombinedLoader
from trainkit.data.module import DataModule
from trainkit.data.sharded_iterable import ShardedIterable
from trainkit.data.tensors import TensorLoader

__all__ = ["CombinedLoader", "DataModule", "ShardedIterable", "TensorLoader"]
