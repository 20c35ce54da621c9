"""Gradients that ranks have alone; those of sharded modules are compared in ``tests/strategies/test_fsdp_fit.py``."""

from __future__ import annotations

import torch
from torch import nn

from trainkit.strategies.single import SingleDevice
from trainkit.trainer.rank_gradients import add_shared, group_of_rank, groups_of_ranks, without_shared


def test_a_rank_goes_on_with_its_own_or_with_those_of_all():
    own = {"gradients": {"weight": torch.ones(1)}}
    assert without_shared(own) is own
    ranks = [{"group": own}, {"group": {"gradients": {}, "gradients_of": 0}}]
    assert group_of_rank(groups_of_ranks(ranks), 1, nn.Linear(1, 1))["gradients"] == own["gradients"]
    add_shared(ranks, own, SingleDevice())
    assert ranks[0]["group"] is own
    assert group_of_rank(groups_of_ranks([{"group": None}]), 0, nn.Linear(1, 1)) is None
