from __future__ import annotations

import torch
from torch import nn

from trainkit.precision import MixedBFloat16


def test_products_are_bfloat16_and_parameters_and_batches_stay_float32():
    precision, layer, batch = MixedBFloat16(), nn.Linear(2, 2), torch.ones(1, 2)
    precision.setup(torch.device("cpu"))
    precision.convert(layer)
    with precision.autocast():
        output = layer(precision.convert_batch(batch))
        assert output.dtype is torch.bfloat16
        assert nn.functional.mse_loss(output, batch).dtype is torch.float32
    assert layer.weight.dtype is precision.convert_batch(batch).dtype is torch.float32


def test_gradients_are_not_scaled():
    weight = nn.Parameter(torch.ones(1))
    MixedBFloat16().backward((weight * 3).sum())
    assert weight.grad == 3
