from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torchmetrics

from trainkit.errors import MetricError
from trainkit.metrics.scalars import as_number, as_scalar, as_tensors, as_weight, metric_value, read


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_element_of_any_shape_is_a_scalar(shape):
    assert as_scalar("x", torch.ones(shape)).shape == ()


@pytest.mark.parametrize("shape", [(2,), (0,), (1, 3)])
def test_other_shapes_are_refused_by_name(shape):
    with pytest.raises(MetricError) as caught:
        as_scalar("x", torch.ones(shape))
    assert f"self.log('x') got a tensor of shape {shape}" in str(caught.value)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.float64(2), np.int64(2), Fraction(2)])
def test_every_real_number_becomes_a_plain_float(value):
    number = as_number("x", value)
    assert type(number) is float
    assert number == 2.0


def test_true_is_one():
    assert as_number("x", True) == 1.0


@pytest.mark.parametrize("value", ["0.5", None, [0.5], 1j, np.zeros(3), object])
def test_what_is_no_number_is_refused_with_its_type(value):
    with pytest.raises(MetricError, match=rf"(?s)got a {type(value).__name__}\b.*a number, a tensor"):
        as_number("x", value)


@pytest.mark.parametrize("value", [{"a": 1.0}, torchmetrics.MetricCollection([torchmetrics.MeanMetric()])])
def test_several_values_at_once_are_sent_to_log_dict(value):
    with pytest.raises(MetricError, match="log_dict"):
        as_number("x", value)


@pytest.mark.parametrize("weight", [0, 3, 2.5, np.int64(3), torch.tensor(3), torch.tensor([3])])
def test_weight_is_any_number_of_samples(weight):
    assert as_weight("x", weight) == float(weight)


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, "8", torch.ones(2), (8,)])
def test_weight_that_cannot_be_is_refused(weight):
    with pytest.raises(MetricError, match="batch_size is a number, 0 or more"):
        as_weight("x", weight)


def test_value_of_a_metric_is_a_copy():
    cache = torch.ones(1)
    value = metric_value("x", torchmetrics.MeanMetric(), cache)
    cache.add_(1)
    assert value.shape == ()
    assert value == 1.0


@pytest.mark.parametrize(("value", "found"), [(torch.ones(2, 2), r"shape \(2, 2\)"), ({"a": 1}, "type dict")])
def test_metric_with_many_values_is_refused(value, found):
    with pytest.raises(MetricError, match=f"MeanMetric whose value has {found}"):
        metric_value("x", torchmetrics.MeanMetric(), value)


def test_reading_keeps_the_order_and_the_exact_numbers():
    table = {"b": torch.tensor(3), "a": 0.1, "c": torch.tensor(0.5, dtype=torch.bfloat16), "d": torch.tensor(True)}
    row = read(table)
    assert list(row.items()) == [("b", 3.0), ("a", 0.1), ("c", 0.5), ("d", 1.0)]
    assert all(type(value) is float for value in row.values())


def test_tensors_of_a_table_are_scalars():
    tensors = as_tensors({"a": 0.5, "b": torch.tensor(1.0)})
    assert {name: (value.shape, value.item()) for name, value in tensors.items()} == {"a": ((), 0.5), "b": ((), 1.0)}
