from __future__ import annotations

from collections import OrderedDict
from itertools import product
from typing import Any

import pytest
import torch

from trainkit.checkpoint.diff import differences

NAN = float("nan")


def told(first: Any, second: Any) -> list[str]:
    return [str(difference) for difference in differences(first, second)]


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, (2.0, None), "x"], 3: {True, False}},
        OrderedDict(weight=torch.tensor([1.0, NAN]), empty=torch.zeros(0, 3), bit=torch.tensor(True)),
        NAN,
        torch.zeros(2, dtype=torch.bfloat16),
        torch.zeros(3, 2).T,
    ],
)
def test_equal_states_have_none(value: Any) -> None:
    again = value.clone() if isinstance(value, torch.Tensor) else value
    assert told(value, again) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8, torch.bool, torch.complex64])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 3), (3, 1), (1, 1), (2, 3), (0, 2), (2, 1, 3)])
def test_tensors_of_any_strides_are_compared(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    memory = torch.arange(64).to(dtype)
    for strides in product((0, 1, 2, 5), repeat=len(shape)):
        tensor = memory.as_strided(shape, strides)
        assert told(tensor, tensor.clone()) == []
        changed = tensor.clone(memory_format=torch.contiguous_format)
        changed.view(-1)[-1:] = 1 - int(bool(tensor.reshape(-1)[-1:].any()))
        assert bool(told(tensor, changed)) == bool(tensor.numel())


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ["a.b[1]: 2 and 3"]),
        ({"a": 1, 2: 0}, {"b": 1, 2: 1}, ["a: only in the first", "[2]: 0 and 1", "b: only in the second"]),
        ([1], [1, 2], ["(all): [1] and [1, 2]"]),
        (1, True, ["(all): 1 and True"]),
        (1, 1.0, ["(all): 1 and 1.0"]),
        (torch.zeros(2), torch.zeros(3), ["(all): float32[2] and float32[3]"]),
        (torch.zeros(2), torch.zeros(2).double(), ["(all): float32[2] and float64[2]"]),
        (torch.zeros(4), torch.tensor([0, 1.5, 0, -2]), ["(all): 2 of 4 values differ, by at most 2"]),
        (torch.tensor(0), torch.tensor(3), ["(all): 0 and 3"]),
        (torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [-0.0, 0.0]]), ["(all): 1 of 4 values differ, by at most 0"]),
        ({"a": torch.zeros(2)}, {"a": None}, ["a: a tensor, float32[2] and None"]),
        ("x" * 99, "y", [f"(all): '{'x' * 59}... and 'y'"]),
    ],
)
def test_differences_are_told_with_their_places(first: Any, second: Any, expected: list[str]) -> None:
    assert told(first, second) == expected


def unusual() -> dict[str, torch.Tensor]:
    return {
        "meta": torch.zeros(2, device="meta"),
        "sparse": torch.tensor([0.0, 2.0]).to_sparse(),
        "csr": torch.eye(2).to_sparse_csr(),
        "csc": torch.eye(2).to_sparse_csc(),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "quantized": torch.quantize_per_tensor(torch.tensor([0.5, 1.0]), 0.5, 0, torch.qint8),
        "float8": torch.ones(2, dtype=torch.float8_e4m3fn),
    }


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:Sparse CSC", "ignore:torch.quantize")
def test_unusual_tensors_are_compared_by_what_they_store() -> None:
    assert told(unusual(), unusual()) == []
    other = unusual() | {
        "sparse": torch.tensor([0.0, 5.0]).to_sparse(),
        "csr": torch.eye(2).to_sparse_csc(),
        "conjugate": torch.tensor([1 + 2j]),
        "quantized": torch.quantize_per_tensor(torch.tensor([0.5, 1.5]), 0.5, 0, torch.qint8),
        "meta": torch.zeros(2),
    }
    assert told(unusual(), other) == [
        "meta: float32[2] on meta and float32[2]",
        "sparse: 1 of 2 values differ, by at most 3",
        "csr: float32[2, 2] sparse_csr and float32[2, 2] sparse_csc",
        "conjugate: (1-2j) and (1+2j)",
        "quantized: 1 of 2 values differ, by at most 0.5",
    ]


def test_what_is_no_number_to_torch_is_compared_too() -> None:
    first, second = (torch.tensor([1, 2, each], dtype=torch.uint8).view(torch.bits8) for each in (3, 4))
    assert told({"a": first}, {"a": first.clone()}) == []
    assert told({"a": first}, {"a": second}) == ["a: 1 of 3 values differ"]


def test_what_is_expanded_is_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainkit.checkpoint.diff._AT_ONCE", 4)
    first, second = torch.zeros(1, 1).expand(5, 7), torch.zeros(5, 7)
    assert told(first, second) == []
    second[4, 6], second[0, 0] = -3.0, 1.0
    assert told(first, second) == ["(all): 2 of 35 values differ, by at most 3"]
    second[2, 2] = torch.nan
    assert told(first, second) == ["(all): 3 of 35 values differ, by at most nan"]


def test_a_difference_is_shown_on_one_line() -> None:
    assert told({"a\n\x1b": "\r"}, {"a\n\x1b": 1}) == [r"a\n\x1b: '\r' and 1"]


def test_passwords_and_the_like_are_not_shown() -> None:
    one, other = ({"hyper_parameters": {"token": word, "db": {"password": word}, "options": [word]}} for word in "ab")
    assert [str(each) for each in differences(one, other)] == [
        "hyper_parameters.token: '(not shown)' and '(not shown)'",
        "hyper_parameters.db.password: '(not shown)' and '(not shown)'",
        "hyper_parameters.options[0]: 'a' and 'b'",
    ]
