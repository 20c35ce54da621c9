"""Lightning's ``accelerators``: names of devices, as objects."""

from __future__ import annotations

import torch

from trainkit.compat.lightning.absent import absent_names


class Accelerator:
    """A kind of device.

    Attributes:
        name: What the user writes in ``Trainer(accelerator=...)``.
    """

    name: str

    @staticmethod
    def is_available() -> bool:
        """Return whether there is such a device here."""
        return True

    @staticmethod
    def auto_device_count() -> int:
        """Return how many ``devices="auto"`` would find."""
        return 1


class CPUAccelerator(Accelerator):
    """The CPU."""

    name = "cpu"


class CUDAAccelerator(Accelerator):
    """CUDA devices."""

    name = "cuda"

    @staticmethod
    def is_available() -> bool:
        return torch.cuda.is_available()

    @staticmethod
    def auto_device_count() -> int:
        return torch.cuda.device_count()


class MPSAccelerator(Accelerator):
    """Apple's GPU."""

    name = "mps"

    @staticmethod
    def is_available() -> bool:
        return torch.backends.mps.is_available()


def accelerator_of(device: torch.device) -> Accelerator:
    """Return the kind of ``device``."""
    kinds = {kind.name: kind for kind in (CPUAccelerator, CUDAAccelerator, MPSAccelerator)}
    return kinds.get(device.type, CPUAccelerator)()


__all__ = ["Accelerator", "CPUAccelerator", "CUDAAccelerator", "MPSAccelerator", "accelerator_of"]

__getattr__ = absent_names(
    __name__,
    {
        "XLAAccelerator": "accelerator='cuda', 'mps' or 'cpu'; there is no TPU support",
        "find_usable_cuda_devices": "devices=-1 for all, or CUDA_VISIBLE_DEVICES to choose",
    },
)
