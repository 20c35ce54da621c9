from __future__ import annotations

import math
import re
import warnings

import pytest
import torch
from torch import Tensor

from trainkit.storage.tensors import bounds, kind_of, misformed, other_kind, wrong_number

VALUE = torch.arange(6.0).reshape(2, 3)


def quantized(value: Tensor) -> Tensor:
    with warnings.catch_warnings(action="ignore"):  # they are to go, and files have them
        return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


def nested() -> Tensor:
    with warnings.catch_warnings(action="ignore"):
        return torch.nested.nested_tensor([VALUE, VALUE])


@pytest.mark.parametrize(
    "saved", [VALUE, VALUE.half(), VALUE.double(), VALUE.t().contiguous().t(), torch.ones(4, 6)[::2, ::2]]
)
def test_what_holds_the_same_numbers_in_another_way_is_taken(saved: Tensor) -> None:
    assert misformed(saved, (2, 3), torch.float32, "x") == ""


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        (VALUE.tolist(), "x is a list"),
        (VALUE.to("meta"), "x is a tensor without data"),
        (VALUE.to_sparse(), "x is torch.sparse_coo, and a dense tensor"),
        (quantized(VALUE), "x is quantized"),
        (nested(), "x is nested"),
        (VALUE + 1j, "x has the dtype torch.complex64, and torch.float32"),
        (VALUE.long(), "x has the dtype torch.int64"),
        (VALUE.bool(), "x has the dtype torch.bool"),
        (VALUE.t(), r"x has the shape \(3, 2\), and \(2, 3\)"),
        (torch.zeros(1, 3).expand(2, 3), "x repeats some numbers in memory"),
        (torch.zeros(4).as_strided((2, 3), (1, 1)), "x repeats some numbers in memory"),
    ],
)
def test_what_is_wrong_with_the_form_of_a_tensor_is_told(saved: object, told: str) -> None:
    assert re.match(told, misformed(saved, (2, 3), torch.float32, "x"))


def test_a_tensor_of_any_shape_may_be_asked_for() -> None:
    assert misformed(VALUE, None, torch.float32, "x") == ""
    assert other_kind(VALUE.to(torch.bfloat16), torch.float64, "x") == ""


@pytest.mark.parametrize("saved", [1, 0.5, torch.tensor(0.5), torch.tensor(3)])
def test_a_number_may_be_a_tensor_without_dimensions(saved: object) -> None:
    assert wrong_number(saved, "x") == ""


@pytest.mark.parametrize("saved", [True, "x", None, 1j, torch.zeros(1), torch.tensor(1j), torch.tensor(True)])
def test_what_is_no_number_is_told(saved: object) -> None:
    assert wrong_number(saved, "x").startswith("x ")


def test_the_bounds_of_numbers() -> None:
    assert bounds(VALUE) == (0, 5)
    assert bounds(3) == (3, 3)
    assert bounds(torch.zeros(0)) == (0, 0)
    assert bounds(torch.tensor([3 - 4j])) == (-4, 3)
    assert all(map(math.isnan, bounds(torch.tensor([1.0, math.nan, -math.inf]))))


def test_the_kinds_of_numbers() -> None:
    kinds = [kind_of(each) for each in (torch.bfloat16, torch.complex64, torch.uint8, torch.bool)]
    assert kinds == ["real", "complex", "whole", "truth values"]
