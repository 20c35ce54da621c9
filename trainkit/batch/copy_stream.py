"""Copying a batch to a CUDA device while it still works on the batch before."""

from __future__ import annotations

import torch
from torch import Tensor

from trainkit.batch.nested import map_tensors
from trainkit.types import Batch

WORTH_IT_BYTES = 2**16
"""What is smaller than this the driver buffers, so that its copy waits for nothing anyway."""


class SideStream:
    """Copies large tensors to a CUDA device on a stream of its own, from pinned memory.

    A loop asks for a batch when it has launched the work on the one before, not when that is done. On the stream of
    that work the copy would wait in line; here the two overlap. Nothing is loaded ahead of its turn, so that random
    numbers and the place of a run in its data are the same as without.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def __call__(self, batch: Batch) -> Batch:
        """Return ``batch`` with its large tensors on the device; what is no plain tensor, or small, stays."""
        copies: list[Tensor] = []

        def copy(tensor: Tensor) -> Tensor:
            if not goes_aside(tensor):
                return tensor
            # torch keeps pinned memory until the copies from it are done.
            source = tensor if tensor.is_pinned() else tensor.pin_memory()
            with torch.cuda.stream(self._stream):
                copies.append(source.to(self._device, non_blocking=True))
            return copies[-1]

        moved = map_tensors(copy, batch)
        if copies:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_stream(self._stream)
            for each in copies:
                # Made on the side stream, their memory would be given to the next copy while steps still read it.
                each.record_stream(computing)
        return moved


def goes_aside(tensor: Tensor) -> bool:
    """Return whether ``tensor`` is copied on the side stream: large, plain, and in the memory of the host."""
    return (
        type(tensor) is Tensor
        and tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not tensor.requires_grad
        and tensor.nbytes >= WORTH_IT_BYTES
    )
