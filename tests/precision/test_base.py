from __future__ import annotations

import pytest
import torch

from trainkit.errors import DeviceError
from trainkit.precision import Float64, MixedBFloat16, Precision


def test_as_it_stands_nothing_is_changed():
    precision, layer, batch = Precision(), torch.nn.Linear(1, 1), [torch.ones(1)]
    precision.setup(torch.device("cpu"))
    precision.convert(layer)
    assert precision.convert_batch(batch) is batch
    assert layer.weight.dtype is torch.float32


def test_arguments_of_backward_are_passed_on():
    x = torch.ones(1, requires_grad=True)
    loss = x.sum()
    Precision().backward(loss, retain_graph=True)
    Precision().backward(loss)
    assert x.grad == 2


def test_the_optimizer_gets_the_closure():
    x = torch.nn.Parameter(torch.ones(1))
    calls = []

    def closure() -> float:
        calls.append(1)
        x.grad = torch.ones(1)
        return 1.0

    Precision().update(torch.optim.LBFGS([x], max_iter=3), closure)
    assert len(calls) > 1


def test_a_device_without_float64_is_refused():
    with pytest.raises(DeviceError, match="'64-true' needs float64, which mps does not have"):
        Float64().setup(torch.device("mps"))


def test_a_device_without_autocast_is_refused():
    with pytest.raises(DeviceError, match="'bf16-mixed' needs autocast, which torch does not have on meta"):
        MixedBFloat16().setup(torch.device("meta"))
