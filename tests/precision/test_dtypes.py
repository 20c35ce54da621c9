from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit.precision import BFloat16, Float16, Float32, Float64, MixedBFloat16


def test_a_module_in_another_dtype_stays_as_its_author_made_it():
    layer, batch = torch.nn.Linear(2, 2).double(), torch.ones(1, 2, dtype=torch.float64)
    precision = Float32()
    precision.setup(torch.device("cpu"))
    precision.convert(layer)
    with precision.autocast():
        assert layer(precision.convert_batch(batch)).dtype is torch.float64


def test_differences_that_float32_loses_are_kept():
    precision = Float64()
    precision.setup(torch.device("cpu"))
    with precision.autocast():
        assert (torch.ones(1) + 1e-12 - 1).item() > 0
    assert precision.convert_batch(torch.ones(1)).dtype is torch.float64


def test_buffers_are_converted_and_counters_are_not():
    norm = torch.nn.BatchNorm1d(2)
    Float16().convert(norm)
    assert norm.weight.dtype is norm.running_mean.dtype is torch.float16
    assert norm.num_batches_tracked.dtype is torch.int64


def test_complex_numbers_are_as_wide_as_the_real_ones():
    layer = nn.ParameterList([nn.Parameter(torch.ones(1)), nn.Parameter(torch.tensor([1 + 2j]))])
    precision = Float64()
    precision.convert(layer)
    assert [parameter.dtype for parameter in layer] == [torch.float64, torch.complex128]
    assert layer[1] == 1 + 2j
    assert precision.convert_batch(torch.tensor([1j])).dtype is torch.complex128


@pytest.mark.parametrize("precision", [Float16(), BFloat16()], ids=str)
def test_complex_numbers_do_not_become_halves(precision):
    layer = nn.ParameterList([nn.Parameter(torch.ones(1)), nn.Parameter(torch.tensor([1 + 2j]))])
    precision.convert(layer)
    assert [parameter.dtype for parameter in layer] == [precision.dtype, torch.complex64]
    assert precision.convert_batch(torch.tensor([1j])).dtype is torch.complex64


def test_values_beyond_the_range_of_float16_survive():
    precision = BFloat16()
    precision.setup(torch.device("cpu"))
    converted = precision.convert_batch({"x": torch.tensor([1e30])})
    assert converted["x"].dtype is torch.bfloat16
    assert converted["x"].isfinite().all()


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
