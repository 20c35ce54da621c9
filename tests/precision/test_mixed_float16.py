from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from trainkit.errors import NotAttachedError, OptimizerError, StateError
from trainkit.precision import MixedFloat16

CPU = torch.device("cpu")


@pytest.fixture
def precision() -> MixedFloat16:
    precision = MixedFloat16(torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2))
    precision.setup(CPU)
    return precision


@pytest.fixture
def weight() -> nn.Parameter:
    return nn.Parameter(torch.ones(1))


def test_products_are_float16_and_parameters_stay_float32(precision: MixedFloat16):
    layer = nn.Linear(2, 2)
    with precision.autocast():
        assert layer(torch.ones(1, 2)).dtype is torch.float16
    assert layer.weight.dtype is torch.float32


def test_gradients_are_scaled_until_they_are_unscaled(precision: MixedFloat16, weight: nn.Parameter):
    optimizer = torch.optim.SGD([weight], lr=0.5)
    precision.backward((weight * 3).sum())
    assert weight.grad == 3 * 1024
    precision.unscale(optimizer)
    assert weight.grad == 3
    assert precision.update(optimizer)
    assert_close(weight.data, torch.tensor([1 - 0.5 * 3]))


def test_an_update_without_unscaling_comes_to_the_same(precision: MixedFloat16, weight: nn.Parameter):
    optimizer = torch.optim.SGD([weight], lr=0.5)
    precision.backward((weight * 3).sum())
    assert precision.update(optimizer)
    assert_close(weight.data, torch.tensor([1 - 0.5 * 3]))


def test_an_overflow_skips_the_update_and_halves_the_scale(precision: MixedFloat16, weight: nn.Parameter):
    optimizer = torch.optim.SGD([weight], lr=0.5)
    precision.backward((weight * torch.inf).sum())
    precision.unscale(optimizer)
    assert not precision.update(optimizer)
    assert weight == 1
    assert precision.state_dict()["scale"] == 512.0


def test_the_scale_grows_and_goes_on_after_a_checkpoint(precision: MixedFloat16, weight: nn.Parameter):
    optimizer = torch.optim.SGD([weight], lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        precision.backward(weight.sum())
        precision.update(optimizer)
    resumed = MixedFloat16()
    resumed.setup(CPU)
    resumed.load_state_dict(precision.state_dict())
    assert resumed.state_dict() == precision.state_dict()
    assert resumed.scale(torch.ones(1)) == 2048.0


def test_gradients_from_before_a_checkpoint_can_be_unscaled_behind_it(precision: MixedFloat16, weight: nn.Parameter):
    precision.backward((weight * 3).sum())
    resumed = MixedFloat16()
    resumed.setup(CPU)
    resumed.load_state_dict(precision.state_dict())
    optimizer = torch.optim.SGD([weight], lr=0.5)
    resumed.unscale(optimizer)
    assert weight.grad == 3
    assert resumed.update(optimizer)


def test_telling_whether_the_step_was_made_leaves_no_hook_behind(precision: MixedFloat16, weight: nn.Parameter):
    optimizer = torch.optim.SGD([weight], lr=0.5)
    precision.backward(weight.sum())
    precision.update(optimizer)
    assert not optimizer._optimizer_step_post_hooks


def test_an_optimizer_that_needs_a_closure_is_refused(precision: MixedFloat16, weight: nn.Parameter):
    with pytest.raises(OptimizerError, match=r"LBFGS evaluates .* Use 'bf16-mixed' or '32-true'"):
        precision.update(torch.optim.LBFGS([weight]), lambda: weight.sum())


@pytest.mark.parametrize("use", [lambda p: p.scale(torch.ones(1)), lambda p: p.state_dict()])
def test_it_says_so_if_it_is_used_before_the_device_is_known(use: Callable[[MixedFloat16], Any]):
    with pytest.raises(NotAttachedError, match=r"GradScaler in setup\(device\)"):
        use(MixedFloat16())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("fused", [True, False])
def test_updates_on_the_gpu(fused: bool):
    precision, device = MixedFloat16(), torch.device("cuda")
    precision.setup(device)
    weight = nn.Parameter(torch.ones(1, device=device))
    optimizer = torch.optim.Adam([weight], lr=0.5, fused=fused)
    precision.backward((weight * torch.inf).sum())
    precision.unscale(optimizer)
    made = precision.update(optimizer)
    # A fused optimizer decides on the device, and the host does not wait to hear of it.
    assert made is fused
    assert weight == 1
    optimizer.zero_grad()
    precision.backward(weight.sum())
    precision.unscale(optimizer)
    assert precision.update(optimizer)
    assert_close(weight.item(), 0.5, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scale": math.inf}, "scale is inf, and must be above 0 and finite"),
        ({"scale": math.nan}, "scale is nan"),
        ({"scale": 0.0}, "scale is 0.0"),
        ({"growth_factor": 1.0}, "growth_factor is not above 1"),
        ({"backoff_factor": 2.0}, "backoff_factor not between 0 and 1"),
        ({"growth_interval": 0}, "growth_interval is 0"),
        ({"_growth_tracker": 2**40}, "_growth_tracker is 1099511627776"),
    ],
)
def test_a_state_by_which_no_update_would_be_made_is_refused(
    precision: MixedFloat16, change: dict[str, float], told: str
):
    with pytest.raises(StateError, match=told):
        precision.load_state_dict(precision.state_dict() | change)
