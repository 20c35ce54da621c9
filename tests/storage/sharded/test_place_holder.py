from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from trainkit.errors import CheckpointError
from trainkit.storage.schema import mismatch
from trainkit.storage.sharded.place_holder import SavedTensor


class Files:
    def read_into(self, targets: Mapping[str, Tensor]) -> None:
        for target in targets.values():
            target.copy_(torch.arange(target.numel()).view(target.shape))


@pytest.fixture
def saved() -> SavedTensor:
    form = torch.empty(2, 3, dtype=torch.float64, device="meta")
    return SavedTensor.of(form, "state_dict.a", [0, -1], Files())


def test_its_form_is_known(saved: SavedTensor) -> None:
    assert (saved.shape, saved.dtype, saved.ndim, saved.numel(), len(saved)) == ((2, 3), torch.float64, 2, 6, 2)
    assert (saved.layout, saved.is_meta, saved.is_quantized, saved.requires_grad) == (torch.strided, True, False, False)
    assert not saved.is_complex()
    assert torch.is_floating_point(saved)
    assert saved.detach() is saved
    assert (saved.saved_as, saved.placements) == ("state_dict.a", (0, -1))
    assert repr(saved) == f"{saved}" == "SavedTensor('state_dict.a', shape=(2, 3), dtype=torch.float64)"


def test_it_is_read_whole_or_like_another(saved: SavedTensor) -> None:
    assert saved.read().tolist() == [[0, 1, 2], [3, 4, 5]]
    like = torch.zeros(2, 3, requires_grad=True)
    read = saved.read_like(like)
    assert (read.dtype, read.requires_grad) == (torch.float64, False)
    into = torch.zeros(2, 3, dtype=torch.float64)
    assert saved.read(into=into) is into
    assert into.sum() == 15


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x * 2,
        lambda x: 2 - x,
        lambda x: x.to("cpu"),
        lambda x: x.clone(),
        lambda x: x.data,
        lambda x: x[0],
        lambda x: x.mul_(2),
        lambda x: torch.zeros(2, 3).copy_(x),
        lambda x: torch.cat([x, x]),
        lambda x: x == 1,
        lambda x: x.T,
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: float(x),
        lambda x: bool(x),
        pickle.dumps,
    ],
)
def test_whatever_is_computed_with_it_is_an_error_that_says_what_to_do(
    saved: SavedTensor, compute: Callable[[Any], Any]
) -> None:
    with pytest.raises(CheckpointError, match=r"not read yet[\s\S]*\.read\(\)"):
        compute(saved)


def test_a_copy_of_what_it_is_in_has_it(saved: SavedTensor) -> None:
    assert copy.deepcopy({"a": [saved]})["a"][0] is saved


def test_it_counts_as_a_tensor_with_data(saved: SavedTensor) -> None:
    assert mismatch({"a": saved}, dict[str, Tensor]) == ""
    assert mismatch({"a": torch.zeros(2, device="meta")}, dict[str, Tensor]) != ""
