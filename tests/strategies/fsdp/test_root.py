"""The root through which steps are called, in one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.strategies.fsdp_fit import Net
from trainkit.module.shards import is_sharded
from trainkit.strategies import FSDP


def wrapped(**options: Any) -> tuple[Net, Any]:
    module, strategy = Net(), FSDP(**options)
    strategy.assign([torch.device("cpu")])
    strategy.setup()
    strategy.wrap(module)
    return module, strategy._root


def test_what_is_held_is_renewed_when_it_has_changed():
    module, root = wrapped()
    (part,) = [each for name, each in module.named_parameters() if name == "shift"]
    with root.held():
        with torch.no_grad():
            part.add_(1)
        assert module.shift.sum() == 0
        root.renew()
        assert module.shift.sum() == 3
    assert is_sharded(module.shift)


def test_a_rank_follows_by_the_order_of_its_last_step():
    module, root = wrapped()
    with torch.no_grad():
        root.evaluate(module.forward, torch.ones(2, 5))
    units = [root._units[number] for number in root._order]
    assert units == list(module.blocks)
    root.follow()
    assert all(map(is_sharded, module.parameters()))


def test_a_module_that_is_whole_is_dealt_out_again():
    module, root = wrapped()
    with root.whole():
        assert not any(map(is_sharded, module.parameters()))
    assert all(map(is_sharded, module.parameters()))


@pytest.mark.parametrize("policy", [{nn.LSTM}, nn.LSTM, 10**9])
def test_a_policy_that_chooses_nothing_is_told(policy: Any):
    with pytest.warns(match="chooses no module within Net, so all of it is one unit"):
        wrapped(wrap_policy=policy)


def test_units_are_described_by_the_classes_that_the_user_has_written():
    module, root = wrapped(activation_checkpointing=True)
    sizes = [sum(each.numel() for each in block.parameters()) for block in module.blocks]
    units, rest = root.describe()
    assert units == f"units, whole while they compute: 3 Block of {sizes[0]:,}"
    in_none = sum(each.numel() for each in module.parameters()) - sum(sizes)
    assert rest == f"in none of them, and whole for the time of a step: {in_none:,}"
