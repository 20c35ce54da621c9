from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedulers

from trainkit.checkpoint.scheduler_states import wrong_in_scheduler


def sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(2)], lr=0.1, momentum=0.9)


MADE: dict[str, Callable[[Any], Any]] = {
    "step": lambda optimizer: schedulers.StepLR(optimizer, 2),
    "milestones": lambda optimizer: schedulers.MultiStepLR(optimizer, [2, 4.0]),
    "polynomial": lambda optimizer: schedulers.PolynomialLR(optimizer, 3, power=0.5),
    "constant": lambda optimizer: schedulers.ConstantLR(optimizer, 0.5, 50),
    "restarts": lambda optimizer: schedulers.CosineAnnealingWarmRestarts(optimizer, 2),
    "one cycle": lambda optimizer: schedulers.OneCycleLR(optimizer, 0.1, total_steps=4),
    "cyclic": lambda optimizer: schedulers.CyclicLR(optimizer, 0.1, 0.2, 3),
    "scaled": lambda optimizer: schedulers.CyclicLR(optimizer, 0.1, 0.2, 3, scale_fn=Curve()),
    "plateau": lambda optimizer: schedulers.ReduceLROnPlateau(optimizer, patience=3),
    "averaging": lambda optimizer: torch.optim.swa_utils.SWALR(optimizer, 0.1),
    "lambda": lambda optimizer: schedulers.LambdaLR(optimizer, [Curve(), lambda epoch: 1.0]),
    "chained": lambda optimizer: schedulers.ChainedScheduler(
        [schedulers.LambdaLR(optimizer, Curve()), schedulers.StepLR(optimizer, 2)], optimizer
    ),
    "sequence": lambda optimizer: schedulers.SequentialLR(
        optimizer,
        [schedulers.LinearLR(optimizer), schedulers.CosineAnnealingWarmRestarts(optimizer, 2)],
        [3],
    ),
}


class Curve:
    """A function of the user's, with values that mean something to the user alone."""

    def __init__(self) -> None:
        self.lowest = 0
        self.is_over = False
        self.calls = 0

    def __call__(self, epoch: int) -> float:
        self.calls += 1
        return 1.0


def after(name: str, steps: int) -> dict[str, Any]:
    scheduler = MADE[name](sgd())
    for _ in range(steps):
        scheduler.optimizer.step()
        scheduler.step(*[1.0] * (name == "plateau"))
    return copy.deepcopy(scheduler.state_dict())


@pytest.mark.parametrize("steps", range(5))
@pytest.mark.parametrize("name", MADE)
def test_what_was_saved_at_any_step_is_taken_and_nothing_changes(name: str, steps: int) -> None:
    state, scheduler = after(name, steps), MADE[name](sgd())
    before = copy.deepcopy((scheduler.state_dict(), [group["lr"] for group in scheduler.optimizer.param_groups]))
    if name == "lambda":
        state["lr_lambdas"][0] = {"lowest": -1, "is_over": math.nan}
    assert wrong_in_scheduler(scheduler, state) == ""
    assert (scheduler.state_dict(), [group["lr"] for group in scheduler.optimizer.param_groups]) == before


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("step", {"last_epoch": -1}, "last_epoch is -1, and a count up to 1000000000 was expected"),
        ("step", {"last_epoch": 10**12}, "last_epoch is 1000000000000, and a count up to 1000000000 was expected"),
        ("step", {"_step_count": 0.5}, "_step_count is 0.5"),
        ("step", {"gamma": math.nan}, "gamma is nan"),
        ("step", {"gamma": -1}, "gamma is -1.0, and that of the code 0.1"),
        ("step", {"base_lrs": [0.1]}, "base_lrs has 1 entries, and that of the code 2"),
        ("step", {"step_size": 0}, "StepLR cannot go on from it: ZeroDivisionError"),
        ("step", {"_is_initial": True}, "_is_initial is True, as nothing that is saved"),
        ("milestones", {"milestones": Counter({"x": 1})}, "milestones.x is 'x'"),
        ("milestones", {"milestones": Counter({2: math.inf})}, "milestones[2] is inf"),
        (
            "restarts",
            {"T_mult": 0},
            "CosineAnnealingWarmRestarts cannot go on from it: ValueError: ",
        ),
        ("restarts", {"T_i": 0}, "CosineAnnealingWarmRestarts cannot go on from it: ZeroDivisionError"),
        ("one cycle", {"total_steps": 0}, "OneCycleLR cannot go on from it: ZeroDivisionError"),
        ("one cycle", {"_anneal_func_type": "x"}, "OneCycleLR cannot go on from it: ValueError"),
        ("cyclic", {"total_size": 0}, "CyclicLR cannot go on from it: ZeroDivisionError"),
        ("plateau", {"mode": "x"}, "mode is 'x', and 'min' or 'max' was expected"),
        ("plateau", {"threshold_mode": "x"}, "threshold_mode is 'x'"),
        ("plateau", {"factor": 2.0}, "ReduceLROnPlateau cannot go on from it: ValueError: Factor should be < 1.0"),
        ("plateau", {"best": math.nan}, "best is nan"),
        ("plateau", {"min_lrs": [1j, 0]}, "min_lrs[0] is 1j"),
        ("averaging", {"_anneal_strategy": "x"}, "_anneal_strategy is 'x'"),
        ("lambda", {"lr_lambdas": [None]}, "lr_lambdas has 1 entries"),
        ("lambda", {"lr_lambdas": [1, None]}, "lr_lambdas[0] is 1"),
        ("sequence", {"_milestones": []}, "_milestones has 0 entries, and that of the code 1"),
    ],
)
def test_what_is_wrong_is_told(name: str, change: dict[str, Any], told: str) -> None:
    wrong = wrong_in_scheduler(MADE[name](sgd()), after(name, 2) | change)
    assert wrong.startswith(told)


@pytest.mark.parametrize("name", ["restarts", "plateau", "step", "sequence"])
def test_what_it_cannot_go_on_without_is_told(name: str) -> None:
    state = after(name, 2)
    for key in {"T_cur", "T_i", "best", "cooldown_counter", "last_epoch", "_schedulers"} & state.keys():
        lacking = {other: value for other, value in state.items() if other != key}
        assert wrong_in_scheduler(MADE[name](sgd()), lacking) == f"there is no {key}"


def test_a_wrong_number_of_phases_is_told() -> None:
    state = after("one cycle", 1)
    state["_schedule_phases"] = state["_schedule_phases"][:1]
    assert wrong_in_scheduler(MADE["one cycle"](sgd()), state) == "_schedule_phases are not those of its total_steps"


@pytest.mark.parametrize("name", ["sequence", "chained"])
def test_the_place_of_what_is_wrong_within_is_told(name: str) -> None:
    state = after(name, 1)
    inner = "T_i" if name == "sequence" else "step_size"
    state["_schedulers"][1][inner] = 0
    wrong = wrong_in_scheduler(MADE[name](sgd()), state)
    assert "ZeroDivisionError" in wrong
    assert name == "sequence" or wrong.startswith("_schedulers[1]: StepLR")


def test_what_the_groups_of_the_optimizer_lack_is_told() -> None:
    scheduler = MADE["one cycle"](sgd())
    del scheduler.optimizer.param_groups[1]["min_lr"]
    assert wrong_in_scheduler(scheduler, after("one cycle", 1)) == "OneCycleLR cannot go on from it: KeyError: 'min_lr'"


def test_a_schedule_that_the_code_itself_cannot_end_is_no_fault_of_the_file() -> None:
    scheduler = schedulers.ConstantLR(sgd(), 0, 50)
    assert wrong_in_scheduler(scheduler, copy.deepcopy(scheduler.state_dict())) == ""


def test_functions_of_the_user_are_not_called() -> None:
    scheduler = MADE["chained"](sgd())
    (curve,) = {id(each): each for each in scheduler._schedulers[0].lr_lambdas}.values()
    before = curve.calls
    wrong_in_scheduler(scheduler, scheduler.state_dict())
    assert curve.calls == before
