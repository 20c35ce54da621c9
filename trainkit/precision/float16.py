"""16-true: everything in float16."""

from __future__ import annotations

import torch

from trainkit.precision.base import Precision


class Float16(Precision):
    """Parameters, batches and new tensors in float16, whose small range loses gradients below 6e-8: for inference."""

    name = "16-true"
    dtype = torch.float16
