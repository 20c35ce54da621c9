"""Precisions that only choose a dtype: for parameters and batches (``-true``), or for autocast (``-mixed``)."""

from __future__ import annotations

import torch

from trainkit.precision.base import Precision


class Float32(Precision):
    """Converts nothing: modules are made in float32, and stay in it."""

    name = "32-true"


class Float64(Precision):
    """Parameters, batches and new tensors in float64: to find out whether a problem is one of rounding."""

    name = "64-true"
    dtype = torch.float64


class Float16(Precision):
    """Parameters, batches and new tensors in float16, whose small range loses gradients below 6e-8: for inference."""

    name = "16-true"
    dtype = torch.float16


class BFloat16(Precision):
    """Parameters, batches and new tensors in bfloat16: half the memory, but small updates are rounded away."""

    name = "bf16-true"
    dtype = torch.bfloat16


class MixedBFloat16(Precision):
    """Forward under autocast; bfloat16 has the range of float32, so gradients need no scaling."""

    name = "bf16-mixed"
    autocast_dtype = torch.bfloat16
