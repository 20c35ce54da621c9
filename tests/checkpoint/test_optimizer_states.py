from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from trainkit.checkpoint.optimizer_states import check_state
from trainkit.errors import StateError

NAMES = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
)
SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "step": lambda optimizer: lr_scheduler.StepLR(optimizer, 2),
    "milestones": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [2, 4]),
    "plateau": lr_scheduler.ReduceLROnPlateau,
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9),
    "cyclic": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.1, 0.2),
    "lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0),
    "one after the other": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.LinearLR(optimizer), lr_scheduler.CosineAnnealingLR(optimizer, 4)], [3]
    ),
}


def make(name: str) -> tuple[torch.optim.Optimizer, list[nn.Parameter]]:
    torch.manual_seed(0)
    shapes = [(3, 4)] if name == "Muon" else [(3, 4), (4,)]
    parameters = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    return getattr(torch.optim, name)(parameters, **({"momentum": 0.9} if name == "SGD" else {})), parameters


def trained(name: str) -> dict[str, Any]:
    optimizer, parameters = make(name)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.stack([(each**2).sum() for each in parameters]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        if name == "SparseAdam":
            for each in parameters:
                each.grad = torch.ones_like(each).to_sparse()
        return loss

    for _ in range(3):
        closure()
        optimizer.step(closure if name != "SparseAdam" else None)  # type: ignore[arg-type]
    return copy.deepcopy(optimizer.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_takes_its_own_state(name: str) -> None:
    check_state(make(name)[0], trained(name))
    check_state(make(name)[0], make(name)[0].state_dict())


@pytest.mark.parametrize(
    ("place", "wrong", "told"),
    [
        (("state", 1, "exp_avg"), True, r"state\[1\].exp_avg is True, and a Tensor was expected"),
        (("state", 1, "exp_avg"), torch.zeros(3), r"state\[1\].exp_avg has the shape \(3,\), and \(4,\)"),
        (("state", 0, "step"), torch.tensor(-1.0), r"state\[0\].step is -1, and a count was expected"),
        (("state", 0), {"x": 1}, r"there is no state\[0\].exp_avg"),
        (("state", 7), {}, "state has a parameter 7, which is in none"),
        (("param_groups", 0, "eps"), None, r"param_groups\[0\].eps is None, and a float was expected"),
        (("param_groups", 0, "foreach"), torch.zeros(1), r"param_groups\[0\].foreach is a Tensor"),
        (("param_groups", 0, "lr"), torch.zeros(3), r"param_groups\[0\].lr has the shape \(3,\)"),
        (("param_groups", 0, "betas"), (7.0, 0.9), "has options that AdamW does not take: Invalid beta"),
        (("param_groups", 0, "params"), [0, 0], "a parameter is in param_groups twice"),
        (("param_groups",), None, "param_groups is None, and a list was expected"),
    ],
)
def test_what_is_wrong_with_an_optimizer_is_told(place: tuple[Any, ...], wrong: Any, told: str) -> None:
    state: Any = trained("AdamW")
    inner = state
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = wrong
    with pytest.raises(StateError, match=told):
        check_state(make("AdamW")[0], state)


def test_a_rate_below_zero_may_be_what_a_schedule_has_led_to() -> None:
    state = trained("SGD")
    state["param_groups"][0]["lr"] = -0.1
    check_state(make("SGD")[0], state)


def test_a_configuration_without_tuples_is_taken() -> None:
    state = trained("AdamW")
    state["param_groups"][0]["betas"] = [0.9, 0.999]
    check_state(make("AdamW")[0], state)


@pytest.mark.parametrize("make_scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_every_scheduler_takes_its_own_state(make_scheduler: Callable[[Any], Any]) -> None:
    optimizer, _ = make("SGD")
    scheduler = make_scheduler(optimizer)
    before = copy.deepcopy(optimizer.param_groups)
    check_state(scheduler, copy.deepcopy(scheduler.state_dict()))
    assert [{**each, "params": 0} for each in optimizer.param_groups] == [{**each, "params": 0} for each in before]


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("step", {"step_size": ()}, "step_size is"),
        ("step", {"step_size": 0.5}, "step_size is 0.5, and a int was expected"),
        ("step", {"last_epoch": "x"}, "last_epoch is 'x'"),
        ("milestones", {"milestones": {"x": 1}}, "milestones.x is 'x'"),
        ("plateau", {"mode": 1}, "mode is 1, and a str was expected"),
        ("cyclic", {"max_lrs": []}, "max_lrs has 0 entries, and that of the code 1"),
        ("one after the other", {"_schedulers": [{}, {}]}, r"there is no _schedulers\[0\].base_lrs"),
    ],
)
def test_what_is_wrong_with_a_scheduler_is_told(kind: str, change: dict[str, Any], told: str) -> None:
    scheduler = SCHEDULERS[kind](make("SGD")[0])
    with pytest.raises(StateError, match=told):
        check_state(scheduler, scheduler.state_dict() | change)


def test_a_schedule_that_cannot_be_computed_is_told() -> None:
    scheduler = SCHEDULERS["step"](make("SGD")[0])
    with pytest.raises(StateError, match="StepLR cannot go on from it: ZeroDivisionError"):
        check_state(scheduler, scheduler.state_dict() | {"step_size": 0})


def test_the_optimizer_of_somebody_else_is_not_judged() -> None:
    class Own(torch.optim.SGD):
        pass

    check_state(Own([nn.Parameter(torch.zeros(1))]), "anything")
