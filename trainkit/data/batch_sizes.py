"""How many samples the batches of a loader have, as far as that is known before they are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from trainkit.data.dataloader_copy import has_own_batches, index_sampler
from trainkit.data.global_batches import sampler_of
from trainkit.data.loaders import length_of
from trainkit.data.tensors import TensorLoader


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """The samples in the batches of an epoch.

    Attributes:
        size: Samples of each batch but the last.
        in_epoch: Samples of all batches; infinite if nobody knows.
        ranks: How many processes draw as many at a time.
    """

    size: int
    in_epoch: float
    ranks: int = 1

    def of_first(self, batches: int) -> int:
        """Return how many samples so many batches have, from the first on."""
        return int(min(batches * self.size, self.in_epoch)) * self.ranks


def batch_sizes(loader: Any, ranks: int) -> BatchSizes | None:
    """Return the sizes of the batches of ``loader``, on all ranks; None if it does not tell.

    Args:
        loader: The loader.
        ranks: How many processes have one like it.
    """
    if (dealt := sampler_of(loader)) is not None:
        return BatchSizes(dealt.batch.samples, dealt.samples)
    if isinstance(loader, TensorLoader):
        return BatchSizes(loader.batch_size, length_of(loader.sampler) or math.inf, ranks)
    # A batch sampler of the user's own makes batches as it likes; without one each item of the dataset is a batch.
    if not isinstance(loader, DataLoader) or loader.batch_sampler is None or has_own_batches(loader):
        return None
    size: int = loader.batch_sampler.batch_size  # type: ignore[attr-defined]
    return BatchSizes(size, length_of(index_sampler(loader)) or math.inf, ranks)
