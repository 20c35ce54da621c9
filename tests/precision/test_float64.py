from __future__ import annotations

import torch

from trainkit.precision import Float64


def test_differences_that_float32_loses_are_kept():
    precision = Float64()
    precision.setup(torch.device("cpu"))
    with precision.autocast():
        assert (torch.ones(1) + 1e-12 - 1).item() > 0
    assert precision.convert_batch(torch.ones(1)).dtype is torch.float64
