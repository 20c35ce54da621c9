from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, MultiStepLR, OneCycleLR, ReduceLROnPlateau, StepLR

from trainkit.checkpoint.arguments import (
    arguments_in,
    flattened,
    names_of,
    optimizer_arguments,
    plain,
    scheduler_arguments,
    scheduler_rows,
    vars_of,
)
from trainkit.checkpoint.changes import find_changes
from trainkit.module.optimizers import SchedulerConfig


def sgd(*rates: float, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates], **options)


def test_groups_with_one_value_have_one_and_others_a_list() -> None:
    rows = optimizer_arguments(sgd(0.1, 0.2, momentum=0.9).param_groups, [])
    assert (rows["lr"], rows["momentum"]) == ([0.1, 0.2], 0.9)
    assert not {"params", "initial_lr"} & rows.keys()


def test_a_rate_is_what_the_code_said_and_not_what_a_scheduler_made_of_it() -> None:
    optimizer = sgd(0.1)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    assert optimizer_arguments(optimizer.param_groups, [scheduler])["lr"] == 0.1


def test_what_a_scheduler_cycles_is_its_own() -> None:
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(1))])
    scheduler = OneCycleLR(optimizer, 0.1, 20)
    rows = optimizer_arguments(optimizer.param_groups, [scheduler])
    assert rows["betas"] == (0.999,)
    assert not {"lr", "max_lr", "min_lr", "base_momentum", "max_momentum"} & rows.keys()


ONE_CYCLE = {
    "max_lr": 0.3,
    "total_steps": 37,
    "pct_start": 0.3,
    "anneal_strategy": "linear",
    "cycle_momentum": True,
    "base_momentum": 0.7,
    "max_momentum": 0.9,
    "div_factor": 7.0,
    "final_div_factor": 300.0,
    "three_phase": True,
}
CYCLIC = {
    "base_lr": 0.1,
    "max_lr": 0.3,
    "step_size_up": 7,
    "step_size_down": 3,
    "mode": "triangular2",
    "gamma": 0.9,
    "scale_mode": "cycle",
    "cycle_momentum": True,
    "base_momentum": 0.7,
    "max_momentum": 0.9,
}


@pytest.mark.parametrize(("cls", "arguments"), [(OneCycleLR, ONE_CYCLE), (CyclicLR, CYCLIC)])
def test_arguments_that_torch_keeps_in_another_form_are_found(cls: Any, arguments: dict[str, Any]) -> None:
    assert scheduler_arguments(cls(sgd(0.1, 0.1, momentum=0.9), **arguments)) == arguments


def test_counters_of_a_scheduler_are_no_arguments() -> None:
    rows = scheduler_arguments(ReduceLROnPlateau(sgd(0.1), patience=3))
    assert rows.keys() == {"mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps"}


def test_milestones_are_a_list_and_functions_stay_what_they_are() -> None:
    assert scheduler_arguments(MultiStepLR(sgd(0.1), [5, 2, 5]))["milestones"] == [2, 5, 5]
    assert callable(scheduler_arguments(LambdaLR(sgd(0.1), abs))["lr_lambda"])


def test_a_scheduler_has_its_class_arguments_and_when_it_steps() -> None:
    assert scheduler_rows("scheduler", SchedulerConfig(StepLR(sgd(0.1), 3), "step", 2, "x")) == {
        "scheduler": "StepLR",
        "scheduler.step_size": 3,
        "scheduler.gamma": 0.1,
        "scheduler.interval": "step",
        "scheduler.frequency": 2,
        "scheduler.monitor": "x",
    }


def test_a_scheduler_that_goes_by_a_unit_has_that_in_place_of_interval_and_frequency() -> None:
    rows = scheduler_rows("scheduler", SchedulerConfig(StepLR(sgd(0.1), 3), every="2 epochs"))
    assert rows["scheduler.every"] == "2 epochs"
    assert not {"scheduler.interval", "scheduler.frequency"} & rows.keys()
    # When it steps is in no state: a run that goes on does as the code says.
    (change,) = find_changes(rows | {"scheduler.every": "5 steps"}, rows, ())
    assert change.holds == "code"


def test_schedulers_within_another_have_names() -> None:
    optimizer = sgd(0.1)
    outer = torch.optim.lr_scheduler.SequentialLR(optimizer, [StepLR(optimizer, 1), StepLR(optimizer, 2)], [4])
    assert [name for name, _ in flattened("scheduler", outer)] == ["scheduler", "scheduler[0]", "scheduler[1]"]


class Parent:
    def __init__(self, one: int, optimizer: object = None, verbose: bool = False) -> None:
        self.one = one
        self.counter = 0


class Child(Parent):
    def __init__(self, *args: Any, two: int = 2, three: int = 3, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._two = two


def test_arguments_of_parents_count_and_only_what_is_kept_is_found() -> None:
    assert arguments_in(Child, vars_of(Child(1))) == {"two": 2, "one": 1}


class Slots:
    __slots__ = ("one",)

    def __init__(self, one: int) -> None:
        self.one = one


def test_an_object_without_a_dict_has_none() -> None:
    assert arguments_in(Slots, vars_of(Slots(1))) == {}


class Scale:
    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.inner = self

    def __call__(self, epoch: int) -> float:
        return self.factor


def test_plain_values() -> None:
    assert plain(torch.tensor(0.5)) == 0.5
    assert plain([torch.tensor([1, 2]), (3,)]) == [[1, 2], (3,)]
    assert plain([Scale(2.0)]) == [{"factor": 2.0}]
    large = torch.zeros(100)
    assert plain(large) is not large
    for same in (nn.Linear(1, 1), partial(abs), Scale, abs, "text", None):
        assert plain(same) is same


def test_names() -> None:
    assert names_of("optimizer", 1) == ["optimizer"]
    assert names_of("optimizer", 2) == ["optimizers[0]", "optimizers[1]"]


def test_what_contains_itself_is_left_out() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert arguments_in(Parent, {"one": endless}) == {}
