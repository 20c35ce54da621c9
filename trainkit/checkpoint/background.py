"""Saving while training continues: a copy that training does not change, and a thread that writes it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.batch.nested import map_tensors


def snapshot(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of ``checkpoint`` that nothing else changes, with its tensors in host memory.

    Tensors that share memory share it in the copy too, so that tied weights and views are stored once.
    """
    on_host: dict[int, Any] = {}  # by the id of the tensor on the device
    storages: dict[int, torch.UntypedStorage] = {}  # by the address on the device

    def fetch(tensor: Tensor) -> Tensor:
        # One without data stands for a sharded one, which is copied by who writes it.
        if not tensor.is_cpu and not tensor.is_meta:
            on_host[id(tensor)] = _fetched(tensor, storages)
        return tensor

    map_tensors(fetch, checkpoint)
    # `on_host` is deepcopy's memo: it takes the host copies that it finds there, and clones no tensor on the device,
    # which may not have the memory for it.
    return copy.deepcopy(checkpoint, on_host)


class BackgroundJob:
    """Runs one job at a time in a thread. The interpreter does not exit before the job is done."""

    def __init__(self) -> None:
        self._running: Future[None] | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Wait for the job before, raise its exception if it failed, then start ``job`` in a thread."""
        self.finish()
        # An executor for each job, as its thread ends with it. Not a daemon thread, which would be cut off in the
        # middle of a file when the program ends: Python waits for the threads of executors at its exit.
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trainkit-save")
        self._running = executor.submit(job)
        executor.shutdown(wait=False)

    def finish(self) -> None:
        """Wait for the running job, if there is one, and raise its exception if it failed."""
        # Cleared first, so that an exception is raised once.
        running, self._running = self._running, None
        if running is not None:
            running.result()


def _fetched(tensor: Tensor, storages: dict[int, torch.UntypedStorage]) -> Tensor:
    """Return a copy of ``tensor`` in host memory, over one copy of its storage for all tensors that share it."""
    # Sparse tensors and subclasses have no single storage that could be shared.
    if tensor.layout is not torch.strided or type(tensor) not in (Tensor, nn.Parameter):
        return tensor.detach().cpu()
    storage = tensor.untyped_storage()
    if storage.data_ptr() not in storages:
        storages[storage.data_ptr()] = storage.cpu()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    copied = torch.empty(0, dtype=tensor.dtype)
    return copied.set_(storages[storage.data_ptr()], tensor.storage_offset(), tensor.size(), tensor.stride())
