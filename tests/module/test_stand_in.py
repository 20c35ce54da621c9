from __future__ import annotations

import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from trainkit.module.stand_in import StandIn


def test_schedulers_set_its_rates_and_leave_those_of_the_other():
    weight = torch.nn.Parameter(torch.ones(3))
    other = SGD([{"params": [weight], "name": "all"}], lr=torch.tensor(0.5), momentum=0.9)
    stand_in = StandIn(other)
    [group] = stand_in.param_groups
    assert (group["lr"], group["momentum"], group["name"]) == (0.5, 0.9, "all")
    assert all(parameter is not weight for parameter in group["params"])
    scheduler = StepLR(stand_in, 1, 0.5)
    stand_in.step()
    scheduler.step()
    assert (group["lr"], other.param_groups[0]["lr"]) == (0.25, 0.5)
    assert weight.tolist() == [1, 1, 1]
