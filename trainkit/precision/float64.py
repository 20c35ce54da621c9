"""64-true: everything in float64."""

from __future__ import annotations

import torch

from trainkit.precision.base import Precision


class Float64(Precision):
    """Parameters, batches and new tensors in float64, to see whether rounding is what is wrong."""

    name = "64-true"
    dtype = torch.float64
