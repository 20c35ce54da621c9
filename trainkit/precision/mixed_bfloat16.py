"""bf16-mixed: parameters in float32, matrix products in bfloat16."""

from __future__ import annotations

import torch

from trainkit.precision.base import Precision


class MixedBFloat16(Precision):
    """Forward under autocast; bfloat16 has the range of float32, so gradients need no scaling."""

    name = "bf16-mixed"
    autocast_dtype = torch.bfloat16
