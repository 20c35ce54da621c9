"""Batches of tensors that are in memory, each taken out of them in one operation instead of sample by sample."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import RandomSampler, SequentialSampler

from trainkit.checks import flags, takes_numpy, whole
from trainkit.errors import DataError
from trainkit.types import Batch


class TensorLoader:
    """Serves batches of tensors that are in memory, by index arithmetic.

    From the same random numbers it gives the batches of ``DataLoader(TensorDataset(x, y), ...)`` in the same order, and
    leaves the generators where that leaves them. It has no workers: taking the samples of a batch out of a tensor costs
    less than any queue. If the tensors are on a GPU, so are the batches, and nothing is copied from the host.

    A batch is a copy, so that a step may change it in place, as with a ``DataLoader``.

    Example::

        loader = TensorLoader(x, y, batch_size=256, shuffle=True)  # batches [x, y]
        loader = TensorLoader({"image": x, "label": y}, batch_size=256)  # batches {"image": x, "label": y}

    Args:
        tensors: One row per sample, on one device; or a single mapping of names to such tensors.
        batch_size: Samples in a batch.
        shuffle: Whether the samples are shuffled anew for each pass.
        sampler: Gives the indices of samples in their order, instead of ``shuffle``; such as a
            ``torch.utils.data.WeightedRandomSampler``.
        drop_last: Whether to leave out a last batch that has fewer samples than ``batch_size``.
        generator: What the order is drawn from; by default torch's global generator.
        views: Whether a sequential batch is a view of the tensors, which saves the copy. A step that changes such a
            batch in place changes the data of every later pass.

    Raises:
        DataError: If the tensors do not fit together, or the arguments contradict each other.
    """

    @takes_numpy
    def __init__(
        self,
        *tensors: Tensor | Mapping[str, Tensor],
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
        views: bool = False,
    ) -> None:
        self._names, self._tensors = _named(tensors)
        self.num_samples = _count(self._tensors)
        whole("batch_size", batch_size, at_least=1, error=DataError)
        flags("TensorLoader", shuffle=shuffle, drop_last=drop_last, views=views)
        if generator is not None and not isinstance(generator, torch.Generator):
            raise DataError(f"TensorLoader: generator={generator!r} must be a torch.Generator, or None.")
        if sampler is not None and not isinstance(sampler, Iterable):
            raise DataError(f"TensorLoader: sampler={sampler!r} must be an iterable of indices, or None.")
        if shuffle and sampler is not None:
            raise DataError("shuffle=True and sampler contradict each other: both decide the order. Leave out one.")
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.generator = generator
        self.views = views
        rows = range(self.num_samples)
        if sampler is None:
            sampler = RandomSampler(rows, generator=generator) if shuffle else SequentialSampler(rows)
        self.sampler = sampler

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors, without their names."""
        return self._tensors

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(self.draw_order())

    def __len__(self) -> int:
        if not isinstance(self.sampler, Sized):
            raise TypeError(f"{type(self.sampler).__name__} has no length")
        return self.count_batches(len(self.sampler))

    def count_batches(self, samples: int) -> int:
        """Return how many batches so many samples make."""
        whole, rest = divmod(samples, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def draw_order(self) -> Tensor | None:
        """Draw the order of one pass.

        Returns:
            The indices of the samples, shape (samples,), int64, on the CPU; None for the order of the tensors.
        """
        # iter(DataLoader) draws a seed for workers, also without workers. Without this draw, the permutation and the
        # Dropout masks of the steps would be others than with a DataLoader.
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        if isinstance(self.sampler, SequentialSampler):
            return None
        return _order_of(self.sampler)

    def batches(self, order: Tensor | None, start: int = 0) -> Iterator[Batch]:
        """Iterate over the batches of one pass.

        Args:
            order: What `draw_order` returned.
            start: The index of the first batch to give.
        """
        tensors, names, size = self._tensors, self._names, self.batch_size
        copies = order is None and not self.views
        # Once for a pass: index_select takes indices on the device of the tensors, and a copy per batch would wait.
        if order is not None:
            order = order.to(tensors[0].device)
        samples = self.num_samples if order is None else len(order)
        for first in range(start * size, samples - size + 1 if self.drop_last else samples, size):
            # Slices are views, so a sequential batch is cloned; index_select makes a copy by itself.
            if order is None:
                batch = [tensor[first : first + size] for tensor in tensors]
                if copies:
                    batch = [rows.clone() for rows in batch]
            else:
                indices = order[first : first + size]
                batch = [tensor.index_select(0, indices) for tensor in tensors]
            # A list, not a tuple, as default_collate makes of the samples of a TensorDataset.
            yield batch if names is None else dict(zip(names, batch, strict=True))

    def with_sampler(
        self, sampler: Iterable[int], batch_size: int | None = None, drop_last: bool | None = None
    ) -> Self:
        """Return a loader over the same tensors that takes the samples in the order of ``sampler``.

        Args:
            sampler: Gives indices.
            batch_size: Samples of a batch; by default as many as before.
            drop_last: Whether a last batch of fewer is left out; by default as before.
        """
        clone = copy.copy(self)
        clone.sampler = sampler
        clone.batch_size = batch_size or self.batch_size
        clone.drop_last = self.drop_last if drop_last is None else drop_last
        return clone

    def keeping_last(self) -> Self:
        """Return a loader over the same tensors that gives a last batch of fewer samples too."""
        clone = copy.copy(self)
        clone.drop_last = False
        return clone


def _order_of(sampler: Iterable[int]) -> Tensor:
    """Run ``sampler``; return the indices that it gives. Shape (samples,), int64."""
    if type(sampler) is not RandomSampler or sampler.replacement or sampler.num_samples != len(sampler.data_source):
        import numpy as np

        return torch.from_numpy(np.fromiter(sampler, dtype=np.int64))
    # The same draws as in RandomSampler.__iter__, without a Python int for each sample, which costs more than making
    # the batches. tests/data/test_tensors.py compares the batches and the generators with those of a DataLoader.
    samples, generator = sampler.num_samples, sampler.generator
    if generator is None:
        seed = int(torch.empty((), dtype=torch.int64).random_())
        return torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    order = torch.randperm(samples, generator=generator)
    torch.randperm(samples, generator=generator)  # it draws once more at its end, and uses none of it
    return order


def _named(given: tuple[Tensor | Mapping[str, Tensor], ...]) -> tuple[list[str] | None, list[Tensor]]:
    """Return the names of the tensors, None if they have none, and the tensors."""
    names = None
    tensors: list[Any] = list(given)
    if len(given) == 1 and isinstance(given[0], Mapping):
        names, tensors = list(given[0]), list(given[0].values())
    strangers = [type(tensor).__name__ for tensor in tensors if not isinstance(tensor, Tensor)]
    if strangers or not tensors:
        raise DataError(
            f"TensorLoader got {', '.join(strangers) or 'nothing'}, and serves tensors.\n"
            "    allowed      tensors, or one dict of tensors\n"
            "    to do        torch.as_tensor(...) makes one of a list or an array"
        )
    return names, tensors


def _count(tensors: list[Tensor]) -> int:
    """Return how many samples there are, after checking that the tensors agree on it and are on one device."""
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
    if any(tensor.dim() == 0 or len(tensor) != len(tensors[0]) for tensor in tensors):
        raise DataError(f"TensorLoader needs one row per sample in every tensor; it got the shapes {shapes}.")
    if len(tensors[0]) == 0:
        raise DataError(f"TensorLoader got no samples: the tensors have the shapes {shapes}.")
    if len({tensor.device for tensor in tensors}) > 1:
        raise DataError(
            f"TensorLoader needs all tensors on one device; it got {', '.join(str(t.device) for t in tensors)}."
        )
    return len(tensors[0])
