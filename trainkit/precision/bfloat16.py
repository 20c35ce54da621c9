"""bf16-true: everything in bfloat16."""

from __future__ import annotations

import torch

from trainkit.precision.base import Precision


class BFloat16(Precision):
    """Parameters, batches and new tensors in bfloat16: half the memory, but small updates are rounded away."""

    name = "bf16-true"
    dtype = torch.bfloat16
