"""Copies and walks; the parts themselves are compared in ``tests/strategies/test_fsdp_fit.py``."""

from __future__ import annotations

import torch
from torch import nn

from trainkit.module.shards import bare_copy, class_of, dealt_like, is_sharded, mapped, whole


def test_what_is_not_sharded_stays_as_it_is():
    tensor, state = torch.ones(2), {"a": [torch.ones(2), (1, 2)]}
    assert not is_sharded(tensor)
    assert whole(tensor) is tensor
    assert dealt_like(tensor, torch.zeros(2)) is tensor
    assert mapped(state, whole) is state
    assert class_of(nn.Linear(1, 1)) is nn.Linear


def test_a_bare_copy_has_the_same_names_and_its_own_memory():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    module[2].weight = module[0].weight
    copy = bare_copy(module)
    assert copy.state_dict().keys() == module.state_dict().keys()
    assert len(list(copy.parameters())) == len(list(module.parameters()))
    with torch.no_grad():
        module[0].weight.zero_()
    assert copy.state_dict()["0.weight"].abs().sum() > 0
