"""Saving beside training: a snapshot that training does not change, and one job at a time that writes it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.batch.nested import map_tensors


def snapshot(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a copy that nothing else changes, its tensors in host memory. What shares memory still does so."""
    on_host: dict[int, Any] = {}
    storages: dict[int, torch.UntypedStorage] = {}

    def fetch(tensor: Tensor) -> Tensor:
        if not tensor.is_cpu:
            on_host[id(tensor)] = _fetched(tensor, storages)
        return tensor

    map_tensors(fetch, checkpoint)
    # deepcopy takes for copied already what it finds here, so nothing is doubled on the device.
    return copy.deepcopy(checkpoint, on_host)


class BackgroundJob:
    """Does something in a thread, one thing at a time. The interpreter does not exit before it is done."""

    def __init__(self) -> None:
        self._running: Future[None] | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Begin with ``job``, after the one before, whose exception is raised here if nobody has asked for it."""
        self.finish()
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trainkit-save")
        self._running = executor.submit(job)
        executor.shutdown(wait=False)

    def finish(self) -> None:
        """Wait for the job that runs, if one does, and raise what it raised."""
        running, self._running = self._running, None
        if running is not None:
            running.result()


def _fetched(tensor: Tensor, storages: dict[int, torch.UntypedStorage]) -> Tensor:
    if tensor.layout is not torch.strided or type(tensor) not in (Tensor, nn.Parameter):
        return tensor.detach().cpu()
    storage = tensor.untyped_storage()
    if storage.data_ptr() not in storages:
        storages[storage.data_ptr()] = storage.cpu()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    copied = torch.empty(0, dtype=tensor.dtype)
    return copied.set_(storages[storage.data_ptr()], tensor.storage_offset(), tensor.size(), tensor.stride())
