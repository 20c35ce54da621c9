"""The same batches in the same order in every epoch, for ``Trainer(overfit_batches=...)``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any

from torch.utils.data import RandomSampler, Sampler, SequentialSampler

from trainkit.data.combined import CombinedLoader
from trainkit.data.dataloader_copy import has_own_batches, index_sampler, is_map_style, with_batch_sampler, with_sampler
from trainkit.data.tensors import TensorLoader


def in_fixed_order(loader: Any) -> Any:
    """Return a copy of ``loader`` that gives the same batches in the same order in every epoch.

    A shuffled DataLoader becomes a sequential one. Any other sampler may draw at random too, so it is run
    once, and its order is kept. Loaders without a sampler are returned as they are. In a `CombinedLoader` each one is
    fixed.
    """
    if isinstance(loader, CombinedLoader):
        return loader.map(in_fixed_order)
    if isinstance(loader, TensorLoader):
        return loader.with_sampler(_in_fixed_order(loader.sampler, range(loader.num_samples)))
    if not is_map_style(loader):
        return loader
    if has_own_batches(loader):
        return with_batch_sampler(loader, RepeatedSampler(loader.batch_sampler))
    sampler = index_sampler(loader)
    fixed = _in_fixed_order(sampler, loader.dataset)
    return loader if fixed is sampler else with_sampler(loader, fixed)


def _in_fixed_order(sampler: Iterable[Any], samples: Sized) -> Iterable[Any]:
    """Return a sampler that gives the same order in every epoch: ``sampler`` itself if it does so already."""
    if isinstance(sampler, SequentialSampler):
        return sampler
    return SequentialSampler(samples) if isinstance(sampler, RandomSampler) else RepeatedSampler(sampler)


class RepeatedSampler(Sampler[Any]):
    """Repeats in every pass what another sampler gave in the first one."""

    def __init__(self, sampler: Iterable[Any]) -> None:
        self.sampler = sampler
        self._items: list[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        if self._items is None:
            self._items = list(self.sampler)
        return iter(self._items)

    def __len__(self) -> int:
        # What the sampler gave is certain; what its len() says is a promise, which some samplers do not make at all.
        if self._items is not None:
            return len(self._items)
        if not isinstance(self.sampler, Sized):
            raise TypeError(f"{type(self.sampler).__name__} has no length")
        return len(self.sampler)
