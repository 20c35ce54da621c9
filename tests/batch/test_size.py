from __future__ import annotations

from collections import UserDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from trainkit.batch.size import find_batch_size

Pair = namedtuple("Pair", ["x", "y"])


@dataclass
class Sample:
    x: torch.Tensor
    label: str = "cat"


@pytest.mark.parametrize(
    "batch",
    [
        torch.zeros(3, 2),
        (torch.zeros(3, 2), torch.zeros(3)),
        {"x": torch.zeros(3), "names": ["a", "b"], "weight": 2.0},
        UserDict(x=torch.zeros(3)),
        Pair(torch.zeros(3), None),
        Sample(torch.zeros(3)),
        [{"deep": (Sample(torch.zeros(3)), [torch.zeros(3, 5)])}],
        (torch.zeros(3), torch.tensor(7.0)),
        [torch.zeros(3), object()],
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_size_is_that_of_dimension_0_at_any_depth(batch):
    assert find_batch_size(batch) == 3


@pytest.mark.parametrize(
    "batch",
    [
        None,
        5,
        "abc",
        ["a", "b", "c"],
        torch.tensor(1.0),
        [],
        Sample,
        (torch.zeros(3), torch.zeros(4)),
        {"x": torch.zeros(3), "lengths": [torch.zeros(2)]},
        pack_sequence([torch.zeros(3, 1), torch.zeros(2, 1)]),
    ],
    ids=repr,
)
def test_size_is_unknown_where_there_is_doubt(batch):
    assert find_batch_size(batch) is None


def test_empty_batch_has_size_0():
    assert find_batch_size(torch.zeros(0, 3)) == 0
