"""Seeding the workers of a DataLoader for each batch, so that what they draw depends on the batch and nothing else.

The indices of a batch are pickled and travel to a worker through a queue. The lists of indices here bring a seed along,
and seed the process in which they are unpickled. So neither the dataset nor the collate function needs a wrapper.

``worker_init_fn`` would not do: it runs once for each worker, so what a sample looks like would depend on how many
batches that worker had made before (``docs/design/0006-samplers-and-seeds.md``).
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

import torch

MASK = 2**64 - 1
"""Keeps a seed within the 64 bits that torch takes."""


def epoch_seed(torch_state: torch.Tensor, epoch: int) -> int:
    """Return a seed for one pass over a loader, of 64 bits. Draws no random number.

    Args:
        torch_state: The state of torch's generator when the pass began. Shape (bytes,), uint8.
        epoch: The index of the epoch.
    """
    # The epoch as salt, because two epochs begin with the same state where nothing draws in between. Not Python's
    # hash(), which differs from process to process.
    digest = hashlib.blake2b(torch_state.numpy().tobytes(), digest_size=8, salt=epoch.to_bytes(16, "little"))
    return int.from_bytes(digest.digest(), "little")


class SeededIndices(list[Any]):
    """The indices of one batch; unpickling them seeds the process that does it.

    Args:
        indices: The indices, of any kind.
        epoch_seed: The seed of the pass.
        batch_idx: The number of the batch in the epoch.
    """

    def __init__(self, indices: list[Any], epoch_seed: int, batch_idx: int) -> None:
        super().__init__(indices)
        self.seed = epoch_seed + batch_idx & MASK

    def __reduce__(self) -> tuple[Any, ...]:
        # The worker gets a plain list: what the dataset is asked for is what it would be asked for without trainkit.
        return _seeded, (self.seed, list(self))


class SeededIndex(int):
    """An index that is a batch of its own (``batch_size=None``); unpickling it seeds the process that does it."""

    seed: int

    @classmethod
    def of(cls, index: Any, epoch_seed: int, batch_idx: int) -> Any:
        """Return ``index`` with its seed; one that is no int is returned as it is."""
        # A key of another type, such as a string, has no subclass here that could carry a seed.
        if type(index) is not int:
            return index
        seeded = cls(index)
        seeded.seed = epoch_seed + batch_idx & MASK
        return seeded

    def __reduce__(self) -> tuple[Any, ...]:
        return _seeded, (self.seed, int(self))


def _seeded(seed: int, indices: Any) -> Any:
    """Seed this process, a worker, and return ``indices``. Called by pickle."""
    import numpy as np  # torch works without it; data loading seldom does

    # Not torch.manual_seed, which seeds the devices too and takes a hundred times as long.
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed & 2**32 - 1)  # numpy takes 32 bits
    random.seed(seed)
    return indices
