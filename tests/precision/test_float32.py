from __future__ import annotations

import torch

from trainkit.precision import Float32


def test_a_module_in_another_dtype_stays_as_its_author_made_it():
    layer, batch = torch.nn.Linear(2, 2).double(), torch.ones(1, 2, dtype=torch.float64)
    precision = Float32()
    precision.setup(torch.device("cpu"))
    precision.convert(layer)
    with precision.autocast():
        assert layer(precision.convert_batch(batch)).dtype is torch.float64
