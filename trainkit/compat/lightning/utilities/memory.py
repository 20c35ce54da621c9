"""Freeing memory, and telling that there was none."""

from __future__ import annotations

import gc

import torch


def garbage_collection_cuda() -> None:
    """Collect garbage, and give cached memory back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_oom_error(exception: BaseException) -> bool:
    """Return whether ``exception`` says that a device or the host had too little memory."""
    return isinstance(exception, torch.OutOfMemoryError | MemoryError) or (
        isinstance(exception, RuntimeError) and "can't allocate memory" in str(exception)
    )
