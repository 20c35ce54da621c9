from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainkit.errors import CheckpointError
from trainkit.module.from_checkpoint import load_weights
from trainkit.module.weight_kinds import wrong_numbers


def quantized(value: Tensor) -> Tensor:
    with warnings.catch_warnings(action="ignore"):  # they are to go, and files have them
        return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


def layer() -> nn.BatchNorm1d:
    return nn.BatchNorm1d(2)


def wrong(name: str, value: Tensor, module: nn.Module | None = None) -> list[str]:
    module = module or layer()
    return list(wrong_numbers(module, module.state_dict() | {name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight", torch.ones(2, dtype=torch.float16)),
        ("weight", torch.ones(2, dtype=torch.float64, requires_grad=True)),
        ("weight", torch.ones(1).expand(2)),
        ("running_mean", torch.tensor([1, 0])),
        ("running_mean", torch.tensor([True, False])),
        ("num_batches_tracked", torch.tensor(3.0)),
        ("num_batches_tracked", torch.tensor(3, dtype=torch.uint8)),
        ("unknown", torch.tensor(1j)),
    ],
)
def test_numbers_that_stay_what_they_are_are_taken(name: str, value: Tensor) -> None:
    assert wrong(name, value) == []


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("weight", torch.ones(2) + 1j, "weight has the dtype torch.complex64, and torch.float32 was expected"),
        ("weight", torch.ones(2, dtype=torch.int64), "weight has the dtype torch.int64"),
        ("weight", torch.ones(2).bool(), "weight has the dtype torch.bool"),
        ("weight", quantized(torch.ones(2)), "weight is quantized"),
        ("weight", torch.ones(2).to_sparse(), "weight is torch.sparse_coo"),
        ("running_mean", torch.ones(2) + 1j, "running_mean has numbers that torch.float32 cannot hold"),
        ("num_batches_tracked", torch.tensor(0.5), "num_batches_tracked has numbers that torch.int64 cannot hold"),
    ],
)
def test_numbers_that_would_be_lost_are_told(name: str, value: Tensor, told: str) -> None:
    assert [each[: len(told)] for each in wrong(name, value)] == [told]


def test_complex_weights_are_not_taken_from_real_ones() -> None:
    module = nn.Linear(2, 2, dtype=torch.complex64)
    assert wrong("weight", torch.ones(2, 2), module) != []
    assert wrong("weight", torch.ones(2, 2, dtype=torch.complex128), module) == []


class Packed(nn.Module):
    """Has its weights in whole numbers in a file, as some quantize them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict[f"{prefix}weight"] = state_dict[f"{prefix}weight"].float() / 10
        super()._load_from_state_dict(state_dict, prefix, *rest)


def test_layers_with_a_way_of_loading_of_their_own_are_not_judged() -> None:
    module = nn.Sequential(Packed())
    load_weights(module, {"0.weight": torch.tensor([1, 2])}, strict=True, source="a.ckpt")
    assert module[0].weight.tolist() == pytest.approx([0.1, 0.2])


def test_the_weights_of_a_file_are_looked_at_before_they_are_loaded() -> None:
    module = layer()
    with pytest.raises(CheckpointError, match=r"the weights in a.ckpt are not those of BatchNorm1d: weight has"):
        load_weights(module, module.state_dict() | {"weight": torch.ones(2) * 1j}, strict=True, source="a.ckpt")
    assert module.weight.tolist() == [1, 1]
