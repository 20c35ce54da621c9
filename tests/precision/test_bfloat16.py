from __future__ import annotations

import torch

from trainkit.precision import BFloat16


def test_values_beyond_the_range_of_float16_survive():
    precision = BFloat16()
    precision.setup(torch.device("cpu"))
    converted = precision.convert_batch({"x": torch.tensor([1e30])})
    assert converted["x"].dtype is torch.bfloat16
    assert converted["x"].isfinite().all()
