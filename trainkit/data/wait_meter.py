"""Measuring how long a loop waits for its batches, and advising what to do if that is long."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset, default_collate

from trainkit.data.combined import CombinedLoader
from trainkit.data.dataloader_copy import has_own_batches, index_sampler
from trainkit.data.tensors import TensorLoader
from trainkit.output import warn
from trainkit.types import Batch

SKIPPED, MEASURED = 20, 100
"""How many batches are skipped first, while workers start and kernels are chosen, and how many are measured then."""

WORTH_A_WARNING = 0.2
"""The share of the time spent waiting for batches from which on a warning is given."""

WORTH_A_WORKER_S = 1e-3
"""How long a batch has to take for worker processes to help: less than this, and handing it over costs as much."""

CPU = torch.device("cpu")
_NOTHING = object()


class WaitMeter:
    """Measures which share of its time a loop waits for batches; warns once, with the figures, if it is large.

    Only some batches early in a fit are measured, across epochs if these are short. Later passes are not.

    Args:
        name: What the warning calls the loader.
        device: Where the batches are worked on. Time during which a GPU still has work to do does not count as waiting.
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

    def measure(self, batches: Iterable[Batch], loader: Any) -> Iterable[Batch]:
        """Return an iterable of ``batches`` that is timed until enough batches have been measured.

        Args:
            batches: The batches of one pass.
            loader: The loader that gives them; the advice depends on it.
        """
        if self._seen >= SKIPPED + MEASURED:
            return batches
        iterator = iter(batches)
        # When the first part ends, chain() takes the rest from the same iterator, without a line of Python for each.
        return chain(self._measured(iterator, loader), iterator)

    def _measured(self, batches: Iterator[Batch], loader: Any) -> Iterator[Batch]:
        came_s: float | None = None
        while self._seen < SKIPPED + MEASURED:
            asked_s = self._clock()
            batch = next(batches, _NOTHING)
            if batch is _NOTHING:
                return
            before_s, came_s = came_s, self._clock()
            # From one batch to the next is a step. Before the first batch of a pass there is none, but a validation or
            # the start of workers.
            self._seen += before_s is not None
            if before_s is not None and self._seen > SKIPPED:
                self._whole_s += came_s - before_s
                self._waited_s += came_s - asked_s if self._is_idle() else 0.0
                if self._seen == SKIPPED + MEASURED:
                    self._judge(loader)
            yield batch

    def _is_idle(self) -> bool:
        """Whether the device has finished all work that was launched. Does not wait for it."""
        # Asked when the batch has arrived: if the GPU is still busy then, loading was hidden behind its work. query()
        # asks the driver without synchronizing. A CPU has nothing queued.
        return self._device.type != "cuda" or torch.cuda.current_stream(self._device).query()

    def _judge(self, loader: Any) -> None:
        """Warn if the share of waiting was large, and there is something to advise."""
        if self._waited_s < WORTH_A_WARNING * self._whole_s:
            return
        advice = advise(loader, self._waited_s / MEASURED, pins=self._device.type == "cuda")
        if advice:
            lines = "\n".join(f"    {'to do' if line is advice[0] else '':12} {line}" for line in advice)
            warn(
                f"training waits for {self._name} {self._waited_s / self._whole_s:.0%} of its time: for "
                f"{self._waited_s / MEASURED * 1e3:.3g} of {self._whole_s / MEASURED * 1e3:.3g} ms per batch.\n{lines}"
            )


def advise(loader: Any, wait_s: float, *, pins: bool = True) -> list[str]:
    """Return what would shorten the wait for ``loader``, one line for each advice.

    Args:
        loader: Any loader.
        wait_s: The mean wait for a batch, in seconds.
        pins: Whether batches go to a device for which their memory is pinned.
    """
    if isinstance(loader, CombinedLoader):
        return list(dict.fromkeys(line for each in loader.flattened for line in advise(each, wait_s, pins=pins)))
    # First, however short the wait is: a TensorLoader takes a batch out of the tensors in one operation.
    if isinstance(loader, DataLoader) and _gathers_tensors(loader):
        sampler = index_sampler(loader)
        # With several ranks it is a ShardedSampler around the user's.
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
            f"DataLoader(num_workers={usable_cores()}, persistent_workers=True) loads ahead"
        ]
    if not loader.num_workers:
        pinned = ", pin_memory=True" if pins else ""
        return [f"DataLoader(num_workers={usable_cores()}, persistent_workers=True{pinned}) loads ahead"]
    advice = []
    if loader.num_workers < usable_cores():
        advice.append(f"num_workers={usable_cores()}, as many as there are cores; now {loader.num_workers}")
    if not loader.persistent_workers:
        advice.append("persistent_workers=True, or each epoch starts them anew")
    return [*advice, "do less per sample: store data decoded and resized, move augmentations to the device"]


def _gathers_tensors(loader: DataLoader[Any]) -> bool:
    """Whether a `TensorLoader` would give the same batches."""
    # By the exact type: a subclass of TensorDataset may transform its samples.
    return (
        type(loader.dataset) is TensorDataset
        and loader.collate_fn is default_collate
        and loader.batch_size is not None
        and not has_own_batches(loader)
    )


def usable_cores() -> int:
    """Return how many cores this process may use."""
    # Containers and SLURM give a process fewer cores than the machine has; not every system can tell.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
