from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit import split_parameters
from trainkit.errors import ConfigError, UnknownNameError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Conv1d(4, 4, 3))
        self.head = nn.Linear(4, 5, bias=False)


def test_matrices_are_for_muon_and_the_rest_for_others() -> None:
    split = split_parameters(Net())
    assert list(split.chosen) == ["body.0.weight", "head.weight"]
    assert len(split.chosen) + len(split.rest) == len(list(Net().parameters()))
    matrices, _ = split
    torch.optim.Muon(matrices)


def test_names_may_go_with_the_rest() -> None:
    assert list(split_parameters(Net(), rest=["head."]).chosen) == ["body.0.weight"]
    with pytest.raises(ConfigError, match=r"\['haed'\]\): no parameter of Net begins so. There are embedding.weight"):
        split_parameters(Net(), rest=["haed"])


def test_vectors_do_not_decay() -> None:
    decayed, others = split_parameters(Net(), by="decay")
    assert [each.ndim for each in decayed] == [2, 2, 3, 2]
    assert {each.ndim for each in others} == {1}


def test_a_tied_weight_is_there_once() -> None:
    net = Net()
    net.head.weight = net.embedding.weight
    split = split_parameters(net)
    assert list(split.chosen) == ["body.0.weight"]
    assert "head.weight" not in split.rest


def test_it_prints_what_went_where() -> None:
    text = str(split_parameters(Net()))
    assert "matrices: 2 parameters, 36 values\n    body.0.weight  4x4\n    head.weight    5x4" in text
    assert "all else: 6 parameters" in text


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(UnknownNameError, match="decay"):
        split_parameters(Net(), by="deacy")  # type: ignore[arg-type]


def test_one_beginning_may_stand_for_itself():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    assert list(split_parameters(module, rest="1.").chosen) == ["0.weight"]
