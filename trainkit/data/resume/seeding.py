"""Seeding the workers of a DataLoader for each batch, so that what they draw depends on the batch and nothing else.

The indices of a batch travel to a worker through a queue. Those here bring a seed along, which is set where they
arrive: when they are unpickled. So the dataset needs no wrapper, and neither does the collate function.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

import torch

MASK = 2**64 - 1


def epoch_seed(torch_state: torch.Tensor, epoch: int) -> int:
    """Return a seed for one pass over a loader. Draws nothing.

    Args:
        torch_state: The state of torch's generator when the pass began. Shape (bytes,), uint8.
        epoch: Which epoch it belongs to: two of them may begin with the same state.
    """
    digest = hashlib.blake2b(torch_state.numpy().tobytes(), digest_size=8, salt=epoch.to_bytes(16, "little"))
    return int.from_bytes(digest.digest(), "little")


class SeededIndices(list[Any]):
    """The indices of one batch; unpickling them seeds the process that does it."""

    def __init__(self, indices: list[Any], epoch_seed: int, batch_idx: int) -> None:
        super().__init__(indices)
        self.seed = epoch_seed + batch_idx & MASK

    def __reduce__(self) -> tuple[Any, ...]:
        return _seeded, (self.seed, list(self))


class SeededIndex(int):
    """An index that is a batch of its own (``batch_size=None``); unpickling it seeds the process that does it."""

    seed: int

    @classmethod
    def of(cls, index: Any, epoch_seed: int, batch_idx: int) -> Any:
        """Return ``index`` with its seed; one that is no int is returned as it is."""
        if type(index) is not int:
            return index
        seeded = cls(index)
        seeded.seed = epoch_seed + batch_idx & MASK
        return seeded

    def __reduce__(self) -> tuple[Any, ...]:
        return _seeded, (self.seed, int(self))


def _seeded(seed: int, indices: Any) -> Any:
    import numpy as np

    torch.default_generator.manual_seed(seed)
    np.random.seed(seed & 2**32 - 1)
    random.seed(seed)
    return indices
