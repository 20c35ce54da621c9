from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from trainkit.data import TensorLoader
from trainkit.data.resume.content import checksum, content_of

X = torch.arange(40.0).reshape(20, 2)

MAKERS = {
    "list of tensors": lambda x: list(x),
    "list of pairs": lambda x: [(row, 1) for row in x],
    "tensor loader": lambda x: TensorLoader({"x": x}, batch_size=3),
    "tensors": lambda x: DataLoader(TensorDataset(x), 3),
    "list in a loader": lambda x: DataLoader(list(x), 3),
    "subset": lambda x: DataLoader(Subset(TensorDataset(x), range(0, len(x), 2)), 3),
    "several": lambda x: DataLoader(ConcatDataset([TensorDataset(X), TensorDataset(x)]), 3),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_other_values_and_other_lengths_have_another_checksum(make):
    assert content_of(make(X)) == content_of(make(X.clone())) is not None
    assert content_of(make(X)) != content_of(make(X + 1))
    assert content_of(make(X)) != content_of(make(X[:-2]))


def test_code_of_the_users_is_not_called():
    class Own(Dataset):
        def __getitem__(self, index):
            raise AssertionError

    assert content_of(DataLoader(Own(), sampler=range(3))) is None
    assert content_of(DataLoader(Subset(Own(), [0, 1]))) is None


@pytest.mark.parametrize(
    "batch",
    [
        torch.tensor(3),
        torch.zeros(0),
        torch.ones(4, dtype=torch.bfloat16),
        torch.ones(2, 3).t(),
        torch.ones(2, device="meta"),
        torch.eye(2).to_sparse(),
        np.arange(5),
        np.array(["a", "b"]),
        {"x": [torch.ones(2), "text", None], "y": (1, 2.0, b"bytes")},
        object(),
        [],
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_any_batch_has_one(batch):
    assert checksum(batch) == checksum(batch)
    assert checksum([batch]) != checksum([batch, batch])


@pytest.mark.filterwarnings("error")
def test_whatever_a_batch_is_made_of_it_has_a_checksum():
    array = np.arange(12.0).reshape(3, 4)
    frozen = array.copy()
    frozen.setflags(write=False)
    odd = [array[::-1], array.astype(">f4"), frozen, np.array(3), np.array(["a", object()], dtype=object), array[:0]]
    assert len({checksum(each) for each in odd}) == len(odd)
    assert checksum(array[::-1]) == checksum(array[::-1].copy())
    checksum(torch.sparse_coo_tensor([[0], [1]], [2.0], (2, 2), check_invariants=True))
