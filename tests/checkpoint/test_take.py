"""Whole runs are in ``tests/trainer/test_made_with.py``."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LRScheduler, MultiplicativeLR, ReduceLROnPlateau, StepLR

from trainkit.checkpoint.take import CodeValues, resolve_names
from trainkit.errors import UnknownNameError
from trainkit.module.optimizers import SchedulerConfig

ROWS = {
    "optimizer": "SGD",
    "optimizer.lr": 0.1,
    "optimizer.momentum": 0.9,
    "scheduler": "StepLR",
    "scheduler.gamma": 0.1,
    "scheduler[0].gamma": 0.2,
    "scheduler.frequency": 1,
    "precision": "32-true",
}


@pytest.mark.parametrize(
    ("take", "found"),
    [
        ([], set()),
        (["lr"], {"optimizer.lr"}),
        ("lr, momentum", {"optimizer.lr", "optimizer.momentum"}),
        (["gamma"], {"scheduler.gamma", "scheduler[0].gamma"}),
        (["scheduler.gamma"], {"scheduler.gamma"}),
        (["precision", "frequency"], set()),
        (["scheduler"], {name for name in ROWS if name.startswith("scheduler")} | {"optimizer.lr"}),
        (["optimizer"], ROWS.keys() - {"precision"}),
    ],
)
def test_names_are_found_short_or_in_full(take: Any, found: set[str]) -> None:
    assert resolve_names(take, ROWS) == found


def test_an_unknown_name_is_refused_with_all_that_there_are() -> None:
    with pytest.raises(UnknownNameError) as caught:
        resolve_names(["Gamma"], ROWS)
    assert caught.value.allowed == ["gamma", "lr", "momentum", "optimizer", "scheduler"]
    assert "did you mean 'gamma'?" in str(caught.value)


def test_a_slip_in_what_is_the_codes_in_any_case_is_answered_with_the_nearest() -> None:
    assert resolve_names(["batch_size"], {**ROWS, "batch_size": 32}) == set()
    with pytest.raises(UnknownNameError, match="did you mean 'batch_size'"):
        resolve_names(["batchsize"], {**ROWS, "batch_size": 32})


class OfMyOwn(LRScheduler):
    """Goes by the rate before."""

    def get_lr(self) -> list[Any]:
        return [group["lr"] * (0.5 if self.last_epoch else 1.0) for group in self.optimizer.param_groups]


def run(rates: list[Any], *made: Any) -> tuple[torch.optim.Optimizer, list[SchedulerConfig]]:
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates])
    return optimizer, [SchedulerConfig(make(optimizer)) for make in made]


def step(optimizer: torch.optim.Optimizer, schedulers: list[SchedulerConfig], times: int = 3) -> list[float]:
    optimizer.step()
    for _ in range(times):
        for config in schedulers:
            arguments = [1.0] if isinstance(config.scheduler, ReduceLROnPlateau) else []
            config.scheduler.step(*arguments)
    return [float(group["lr"]) for group in optimizer.param_groups]


SCHEDULES = {
    "none": (),
    "own": (OfMyOwn,),
    "multiplicative": (lambda optimizer: MultiplicativeLR(optimizer, lambda epoch: 0.5),),
    "lambda": (lambda optimizer: LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch)),),
    "step and plateau": (
        lambda optimizer: StepLR(optimizer, 2, 0.5),
        lambda optimizer: ReduceLROnPlateau(optimizer, patience=0, factor=0.5),
    ),
    "two by step": (lambda optimizer: StepLR(optimizer, 2, 0.5), lambda optimizer: ExponentialLR(optimizer, 0.5)),
}


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("made", SCHEDULES.values(), ids=SCHEDULES)
def test_rates_of_all_groups_go_on_from_the_new_base(made: Any, as_tensor: bool) -> None:
    old, new = ([torch.tensor(rate) if as_tensor else rate for rate in rates] for rates in ([0.1, 0.2], [0.3, 0.1]))
    before, by_hand, resumed = run(old, *made), run(new, *made), run(new, *made)
    step(*before)
    code = CodeValues([resumed[0]], resumed[1])
    resumed[0].load_state_dict(before[0].state_dict())
    for config, saved in zip(resumed[1], before[1], strict=True):
        config.scheduler.load_state_dict(copy.deepcopy(saved.scheduler.state_dict()))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedulers = [config.scheduler for config in resumed[1]]
        code.take({"optimizer.lr"}, schedulers, {"optimizer.lr": [0.1, 0.2]}, {"optimizer.lr": [0.3, 0.1]})

    for times in (3, 2):
        expected = step(*by_hand, times)
        reached = step(*resumed, 0 if times == 3 else times)
        assert reached == pytest.approx(expected)
    assert all(isinstance(group["lr"], torch.Tensor) == as_tensor for group in resumed[0].param_groups)
    # Of two, the first one has set other rates than those to which the second one has then led.
    for config, alike in zip(resumed[1], by_hand[1], strict=True):
        last, expected = ([float(rate) for rate in each.scheduler.get_last_lr()] for each in (config, alike))
        assert last == pytest.approx(expected)


def test_of_several_schedulers_one_is_changed() -> None:
    made = SCHEDULES["two by step"]
    before = run([0.1], *made)
    edited = (made[0], lambda optimizer: ExponentialLR(optimizer, 0.9))
    by_hand, resumed = run([0.1], *edited), run([0.1], *edited)
    step(*before)
    code = CodeValues([resumed[0]], resumed[1])
    resumed[0].load_state_dict(before[0].state_dict())
    for config, saved in zip(resumed[1], before[1], strict=True):
        config.scheduler.load_state_dict(copy.deepcopy(saved.scheduler.state_dict()))

    schedulers = [config.scheduler for config in resumed[1]]
    code.take({"schedulers[1].gamma"}, schedulers, {"optimizer.lr": 0.1}, {"optimizer.lr": 0.1})

    assert step(*resumed, 0) == pytest.approx(step(*by_hand, 3))


def test_a_group_that_a_callback_added_keeps_its_rate() -> None:
    optimizer, schedulers = run([0.1])
    code = CodeValues([optimizer], schedulers)
    optimizer.param_groups[0]["lr"] = 0.5
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 0.7})

    code.take({"optimizer.lr"}, [], {"optimizer.lr": 0.5}, {"optimizer.lr": 0.1})

    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.7]


def test_a_scheduler_that_took_the_place_of_the_codes_goes_on_with_a_scaled_rate() -> None:
    optimizer, schedulers = run([0.1], SCHEDULES["two by step"][0])
    code = CodeValues([optimizer], schedulers)
    optimizer.param_groups[0]["lr"] = 0.04
    other = torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.05)
    optimizer.param_groups[0]["initial_lr"] = 0.2

    code.take({"optimizer.lr", "scheduler.gamma"}, [other], {"optimizer.lr": 0.2}, {"optimizer.lr": 0.1})

    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)
    assert other.get_last_lr() == [optimizer.param_groups[0]["lr"]]
