"""Copying a batch to a CUDA device while the device still works on the batch before it."""

from __future__ import annotations

import torch
from torch import Tensor

from trainkit.batch.nested import map_tensors
from trainkit.types import Batch

WORTH_IT_BYTES = 2**16
"""Tensors smaller than this are copied as usual: the driver buffers them, so that their copy does not wait anyway."""


class SideStream:
    """Copies large tensors to a CUDA device on a stream of its own, from pinned memory.

    A loop asks for a batch when it has launched the work on the one before, not when that work is done. On the stream
    of that work the copy would wait in line; on a stream of its own the two overlap. No batch is loaded ahead of its
    turn, so random numbers and the position in the data are the same as without.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def __call__(self, batch: Batch) -> Batch:
        """Return ``batch`` with its large plain tensors on the device; everything else stays where it is."""
        copies: list[Tensor] = []

        def copy(tensor: Tensor) -> Tensor:
            if not uses_side_stream(tensor):
                return tensor
            # Only from pinned memory does a copy run beside the CPU. torch does not use that memory again before the
            # copies from it are done, even if nobody holds the pinned tensor any more.
            source = tensor if tensor.is_pinned() else tensor.pin_memory()
            with torch.cuda.stream(self._stream):
                copies.append(source.to(self._device, non_blocking=True))
            return copies[-1]

        moved = map_tensors(copy, batch)
        if copies:
            computing = torch.cuda.current_stream(self._device)
            # The GPU waits, not the CPU: the step's kernels start when the copies are done.
            computing.wait_stream(self._stream)
            for each in copies:
                # They were made on the side stream, so torch would give their memory to its next copy as soon as Python
                # lets go of them, while kernels of the step still read it.
                each.record_stream(computing)
        return moved


def uses_side_stream(tensor: Tensor) -> bool:
    """Return whether ``tensor`` is copied on the side stream: large, plain, and in the memory of the host."""
    # A subclass may do something of its own in to(), a sparse tensor cannot be pinned, and one that requires gradients
    # would be copied within autograd; these take the usual way.
    return (
        type(tensor) is Tensor
        and tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not tensor.requires_grad
        and tensor.nbytes >= WORTH_IT_BYTES
    )
