from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import schedulefree
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR

from trainkit.callbacks.rates import group_names, made_rates, numbered, rates_of, set_rates, short_names, shown_rates
from trainkit.module.optimizers import SchedulerConfig


def sgd(*rates, names=()):
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    for group, name in zip(groups, names, strict=False):
        group["name"] = name
    return SGD(groups, lr=1.0)


def adam():
    return Adam([nn.Parameter(torch.zeros(1))], lr=0.01)


@pytest.mark.parametrize(
    ("optimizers", "names"),
    [
        ([sgd(1.0)], ["lr"]),
        ([sgd(1.0, names=["all"])], ["lr/all"]),
        ([sgd(1.0, 2.0, names=["decay", "no_decay"])], ["lr/decay", "lr/no_decay"]),
        ([sgd(1.0, 2.0, names=["decay", None])], ["lr/decay", "lr/pg2"]),
        ([sgd(1.0), adam()], ["lr/SGD", "lr/Adam"]),
        ([sgd(1.0, 2.0), adam()], ["lr/SGD/pg1", "lr/SGD/pg2", "lr/Adam"]),
        ([adam(), adam()], ["lr/Adam", "lr/Adam-1"]),
        ([sgd(1.0, 2.0, names=["a", "a"])], ["lr/a", "lr/a-1"]),
    ],
)
def test_each_rate_has_a_name_of_its_own(optimizers, names):
    assert short_names(optimizers, []) == names


def test_the_name_of_a_scheduler_stands_for_its_optimizer():
    one, two = sgd(1.0, 2.0), adam()
    configs = [SchedulerConfig(StepLR(two, 1), name="slow"), SchedulerConfig(StepLR(one, 1))]
    assert short_names([one, two], configs) == ["lr/SGD/pg1", "lr/SGD/pg2", "slow"]


@pytest.mark.parametrize(
    ("optimizers", "shown"),
    [
        ([sgd(0.5)], {"lr": 0.5}),
        ([sgd(0.5, 0.5)], {"lr": 0.5}),
        ([sgd(0.5, 0.5), adam()], {"lr/SGD": 0.5, "lr/Adam": 0.01}),
        ([sgd(0.01), adam()], {"lr/SGD": 0.01, "lr/Adam": 0.01}),  # equal, and not one
        ([sgd(0.5, 0.5), sgd(0.1, 0.2)], {"lr/SGD": 0.5, "lr/SGD-1/pg1": 0.1, "lr/SGD-1/pg2": 0.2}),
        ([sgd(0.5, 0.1, 0.2, 0.3)], {"lr min": 0.1, "lr max": 0.5}),
    ],
)
def test_few_rates_are_shown(optimizers, shown):
    assert shown_rates(optimizers, []) == shown


def test_other_rates_may_be_shown_in_place_of_those_of_now():
    optimizers = [sgd(0.5, 0.5), adam()]
    assert shown_rates(optimizers, [], [[1.0, 2.0], [3.0]]) == {"lr/SGD/pg1": 1, "lr/SGD/pg2": 2, "lr/Adam": 3}
    optimizers[0].add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    assert shown_rates(optimizers, [], [[1.0, 1.0], [3.0]]) == {"lr/SGD": 1, "lr/Adam": 3}


def test_an_optimizer_that_warms_up_by_itself_tells_what_it_has_used():
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.ones(1)
    optimizer = schedulefree.SGDScheduleFree([parameter], lr=1.0, warmup_steps=4)
    assert (set_rates(optimizer), rates_of(optimizer)) == ([1.0], [0.0])
    optimizer.train()
    optimizer.step()
    assert (set_rates(optimizer), made_rates(optimizer), rates_of(optimizer)) == ([1.0], [0.25], [0.25])
    assert made_rates(sgd(1.0)) == [None]


def test_rates_in_the_memory_of_a_device_are_not_compared():
    rate = torch.zeros((), device="meta")
    optimizer = sgd(rate, rate)
    assert shown_rates([optimizer], []) == {"lr/pg1": rate, "lr/pg2": rate}


def test_a_group_without_a_rate_has_no_name():
    optimizer = sgd(0.5, 0.1, 0.2, names=["a", "b", "c"])
    optimizer.param_groups[0]["lr"] = None
    del optimizer.param_groups[1]["lr"]
    optimizer.param_groups[2]["lr"] = np.float32(0.25)
    assert rates_of(optimizer) == [None, None, 0.25]
    assert shown_rates([optimizer], []) == {"lr/c": 0.25}


def test_names_are_numbered_from_the_second_on():
    seen = Counter()
    assert [numbered("a", seen), numbered("b", seen), numbered("a", seen)] == ["a", "b", "a-1"]
    assert group_names(sgd(1.0)) == [""]
