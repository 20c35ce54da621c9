"""Measuring how long a loop waits for its batches, and saying what to do if that is long."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset, default_collate

from trainkit.data.combined import CombinedLoader
from trainkit.data.dataloader_copy import has_own_batches, index_sampler
from trainkit.data.tensors import TensorLoader
from trainkit.types import Batch

SKIPPED, MEASURED = 20, 100
"""Batches at the beginning, while workers start and kernels are chosen, and those behind them that are measured."""

WORTH_A_WARNING = 0.2
"""The share of its time that a loop may wait for batches in silence."""

WORTH_A_WORKER_S = 1e-3
"""A batch that comes sooner than this is not worth a worker process, which has to hand it over."""

CPU = torch.device("cpu")
_NOTHING = object()


class WaitMeter:
    """Measures which share of its time a loop waits for batches; warns once if it is long, with the figures.

    Only some batches early in a fit are measured, across epochs if these are short. Later passes are left alone.

    Args:
        name: What the warning calls the loader.
        device: Where the batches are worked on. What is loaded while a GPU still has something to do keeps nobody
            waiting.
        clock: Gives the time in seconds; by default ``time.perf_counter``.
    """

    def __init__(
        self,
        name: str,
        device: torch.device = CPU,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._name = name
        self._device = device
        self._clock = clock or time.perf_counter
        self._seen = 0
        self._waited_s = self._whole_s = 0.0

    def of(self, batches: Iterable[Batch], loader: Any) -> Iterable[Batch]:
        """Return an iterable of ``batches``, which ``loader`` gives, that is measured until enough is known."""
        if self._seen >= SKIPPED + MEASURED:
            return batches
        iterator = iter(batches)
        # What follows the measured batches passes no line of Python.
        return chain(self._measured(iterator, loader), iterator)

    def _measured(self, batches: Iterator[Batch], loader: Any) -> Iterator[Batch]:
        came_s: float | None = None
        while self._seen < SKIPPED + MEASURED:
            asked_s = self._clock()
            batch = next(batches, _NOTHING)
            if batch is _NOTHING:
                return
            before_s, came_s = came_s, self._clock()
            # The first of a pass is left out: what lies before it is no step.
            self._seen += before_s is not None
            if before_s is not None and self._seen > SKIPPED:
                self._whole_s += came_s - before_s
                self._waited_s += came_s - asked_s if self._is_idle() else 0.0
                if self._seen == SKIPPED + MEASURED:
                    self._judge(loader)
            yield batch

    def _is_idle(self) -> bool:
        """Whether the device has done all that it was given. Does not wait for it."""
        return self._device.type != "cuda" or torch.cuda.current_stream(self._device).query()

    def _judge(self, loader: Any) -> None:
        if self._waited_s < WORTH_A_WARNING * self._whole_s:
            return
        advice = advise(loader, self._waited_s / MEASURED)
        if advice:
            lines = "\n".join(f"    {'to do' if line is advice[0] else '':12} {line}" for line in advice)
            warnings.warn(
                f"training waits for {self._name} {self._waited_s / self._whole_s:.0%} of its time: for "
                f"{self._waited_s / MEASURED * 1e3:.3g} of {self._whole_s / MEASURED * 1e3:.3g} ms per batch.\n{lines}",
                stacklevel=2,
            )


def advise(loader: Any, wait_s: float) -> list[str]:
    """Return what would let ``loader`` keep a loop waiting less, one line each.

    Args:
        loader: Any loader.
        wait_s: How long a batch of it is waited for.
    """
    if isinstance(loader, CombinedLoader):
        return list(dict.fromkeys(line for each in loader.flattened for line in advise(each, wait_s)))
    if isinstance(loader, DataLoader) and _gathers_tensors(loader):
        sampler = index_sampler(loader)
        # That of several ranks wraps the user's.
        shuffle = ", shuffle=True" if isinstance(getattr(sampler, "sampler", sampler), RandomSampler) else ""
        return [
            f"trainkit.data.TensorLoader(*dataset.tensors, batch_size={loader.batch_size}{shuffle}) gives the same "
            "batches, and does not collate them sample by sample"
        ]
    if wait_s < WORTH_A_WORKER_S:
        return []
    if isinstance(loader, TensorLoader):
        return ["put the tensors on the device, if there is room; or views=True if they need not be shuffled"]
    if not isinstance(loader, DataLoader):
        return [
            f"the {type(loader).__name__} loads in the process that trains: a map-style dataset with "
            f"DataLoader(num_workers={_cores()}, persistent_workers=True) loads ahead"
        ]
    if not loader.num_workers:
        return [f"DataLoader(num_workers={_cores()}, persistent_workers=True, pin_memory=True) loads ahead"]
    advice = []
    if loader.num_workers < _cores():
        advice.append(f"num_workers={_cores()}, as many as there are cores; now {loader.num_workers}")
    if not loader.persistent_workers:
        advice.append("persistent_workers=True, or each epoch starts them anew")
    return [*advice, "do less per sample: store data decoded and resized, move augmentations to the device"]


def _gathers_tensors(loader: DataLoader[Any]) -> bool:
    """Whether a `TensorLoader` would give the same batches."""
    return (
        type(loader.dataset) is TensorDataset
        and loader.collate_fn is default_collate
        and loader.batch_size is not None
        and not has_own_batches(loader)
    )


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
