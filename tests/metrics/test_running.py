from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainkit.metrics.running import Running

REDUCTIONS = {"mean": lambda v, w: sum(map(math.prod, zip(v, w, strict=True))) / sum(w), "sum": lambda v, w: sum(v)}
REDUCTIONS |= {"min": lambda v, w: min(v), "max": lambda v, w: max(v)}


def running_over(reduce_fx, values, weights=None):
    running = Running(reduce_fx)
    for value, weight in zip(values, weights or [1] * len(values), strict=True):
        running.add(value, weight)
    return running


@given(
    reduce_fx=st.sampled_from(sorted(REDUCTIONS)),
    values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20),
    as_tensor=st.lists(st.booleans(), min_size=20, max_size=20),
    weights=st.lists(st.integers(1, 64), min_size=20, max_size=20),
)
def test_numbers_and_tensors_in_any_order_come_to_the_same(reduce_fx, values, as_tensor, weights):
    weights = weights[: len(values)]
    mixed = [torch.tensor(v) if tensor else v for v, tensor in zip(values, as_tensor, strict=False)]
    result = float(running_over(reduce_fx, mixed, weights).value())
    assert result == pytest.approx(REDUCTIONS[reduce_fx](values, weights), rel=1e-6, abs=1e-3)


@pytest.mark.parametrize(
    "dtype",
    [torch.bool, torch.uint8, torch.int64, torch.float8_e5m2, torch.bfloat16, torch.float16, torch.float64],
)
@pytest.mark.parametrize("reduce_fx", sorted(REDUCTIONS))
def test_every_dtype_can_be_added(reduce_fx, dtype):
    values = [torch.tensor(value, dtype=dtype) for value in (1, 0, 1)]
    expected = REDUCTIONS[reduce_fx]([1, 0, 1], [2, 1, 3])
    result = running_over(reduce_fx, values, [2, 1, 3]).value()
    assert result.item() == pytest.approx(expected)
    assert result.dtype == torch.float64


def test_sum_of_small_values_does_not_drown_in_a_large_one():
    values = [torch.tensor(1.0)] * 100
    assert running_over("sum", [torch.tensor(2.0**26, dtype=torch.float64), *values]).value().item() == 2**26 + 100


def test_numbers_alone_stay_exact_numbers():
    assert running_over("mean", [0.1, 0.1], [3, 5]).value() == 0.1


@pytest.mark.parametrize("reduce_fx", sorted(REDUCTIONS))
@pytest.mark.parametrize("make", [float, torch.tensor], ids=["number", "tensor"])
def test_nan_is_never_lost(reduce_fx, make):
    for values in ([1.0, math.nan, 2.0], [math.nan, 1.0], [1.0, math.nan]):
        assert math.isnan(running_over(reduce_fx, [make(value) for value in values]).value())


def test_mean_of_nothing_is_nan():
    assert math.isnan(running_over("mean", [1.0], [0]).value())
    assert math.isnan(running_over("mean", [torch.tensor(1.0)], [0]).value())


def test_value_is_a_copy():
    running = running_over("sum", [torch.tensor(1.0, dtype=torch.float64)])
    before = running.value()
    running.add(torch.tensor(1.0), 1)
    assert (before.item(), running.value().item()) == (1.0, 2.0)


def test_started_in_inference_mode_it_goes_on_outside():
    running = Running("mean")
    with torch.inference_mode():
        running.add(torch.tensor(1.0), 1)
    running.add(torch.tensor(3.0), 1)
    assert running.value().item() == 2.0


def test_keeps_one_tensor_however_many_values():
    running = running_over("mean", [torch.tensor(1.0)])
    total = running.total
    for _ in range(10):
        running.add(torch.tensor(2.0), 3)
    assert running.total is total


@pytest.mark.parametrize("make", [float, torch.tensor], ids=["number", "tensor"])
def test_restored_state_continues_bit_for_bit(make):
    values = [make(0.1 * k) for k in range(20)]
    whole = running_over("mean", values, list(range(1, 21)))
    half = running_over("mean", values[:10], list(range(1, 11)))
    state = half.state_dict()
    for resume in (lambda: half, lambda: Running.from_state(state), lambda: Running.from_state(state)):
        running = resume()
        for k in range(10, 20):
            running.add(values[k], k + 1)
        assert running.state_dict() == whole.state_dict()
