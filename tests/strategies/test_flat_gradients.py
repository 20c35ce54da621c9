"""With one rank; on several it is tried by tests/semantics/test_equal_ranks.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from trainkit.strategies import flat_gradients
from trainkit.strategies.flat_gradients import FlatGradients, broadcast


@pytest.fixture(autouse=True)
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def parameter(*shape: int, gradient: Tensor | None = None, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    made = nn.Parameter(torch.zeros(*shape, dtype=dtype))
    made.grad = gradient
    return made


def test_gradients_are_averaged_in_place_and_missing_ones_stay_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flat_gradients, "PIECE_BYTES", 20)  # so that there are several pieces of one dtype
    dtypes = [torch.float32, torch.float64, torch.float16, torch.complex64, torch.float32]
    gradients = [torch.randn(2, 3).to(dtype) for dtype in dtypes]
    parameters = [parameter(2, 3, gradient=each.clone(), dtype=each.dtype) for each in gradients]
    own = [each.grad for each in parameters]
    missing = parameter(4)
    FlatGradients().average([missing, *parameters, nn.UninitializedParameter()])
    assert missing.grad is None
    for each, before, expected in zip(parameters, own, gradients, strict=True):
        assert each.grad is before
        assert torch.equal(each.grad, expected)


def test_a_sparse_gradient_stays_sparse():
    dense = torch.tensor([[0.0, 0], [1, 2], [0, 0]])
    sparse, average = parameter(3, 2), FlatGradients()
    for gradient in (dense.to_sparse(1), dense.to_sparse(1) * 2):
        sparse.grad = gradient
        average.average([sparse])
        assert sparse.grad.is_sparse
        assert torch.equal(sparse.grad.to_dense(), gradient.to_dense())
    sparse.grad = None
    average.average([sparse])
    assert sparse.grad is None


def test_tensors_of_every_dtype_are_broadcast():
    dtypes = (torch.bool, torch.uint16, torch.float8_e4m3fn)
    tensors = [torch.tensor([0, 1]).to(dtype) for dtype in dtypes]
    broadcast(tensors)
    assert [each.dtype for each in tensors] == list(dtypes)
    assert [each.float().tolist() for each in tensors] == [[0.0, 1.0]] * 3
    broadcast([])
