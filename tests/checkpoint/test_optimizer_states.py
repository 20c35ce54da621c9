from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from trainkit.checkpoint.optimizer_states import check_optimizer_state
from trainkit.checkpoint.scheduler_states import check_scheduler_state
from trainkit.errors import StateError
from trainkit.testing import TinyData, TinyModule, quiet_trainer

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
    check_optimizer_state(make(name)[0], trained(name))
    check_optimizer_state(make(name)[0], make(name)[0].state_dict())


@pytest.mark.parametrize(
    ("place", "wrong", "told"),
    [
        (("state", 1, "exp_avg"), True, r"state\[1\].exp_avg is True, and a Tensor was expected"),
        (("state", 1, "exp_avg"), torch.zeros(3), r"state\[1\].exp_avg has the shape \(3,\), and \(4,\)"),
        (("state", 0, "step"), torch.tensor(-1.0), r"state\[0\].step is -1, and a count up to 1000000000 was expected"),
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
        check_optimizer_state(make("AdamW")[0], state)


def test_a_rate_below_zero_may_be_what_a_schedule_has_led_to() -> None:
    state = trained("SGD")
    state["param_groups"][0]["lr"] = -0.1
    check_optimizer_state(make("SGD")[0], state)


def test_a_configuration_without_tuples_is_taken() -> None:
    state = trained("AdamW")
    state["param_groups"][0]["betas"] = [0.9, 0.999]
    check_optimizer_state(make("AdamW")[0], state)


@pytest.mark.parametrize("make_scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_every_scheduler_takes_its_own_state(make_scheduler: Callable[[Any], Any]) -> None:
    optimizer, _ = make("SGD")
    scheduler = make_scheduler(optimizer)
    before = copy.deepcopy(optimizer.param_groups)
    check_scheduler_state(scheduler, copy.deepcopy(scheduler.state_dict()))
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
        check_scheduler_state(scheduler, scheduler.state_dict() | change)


def test_a_schedule_that_cannot_be_computed_is_told() -> None:
    scheduler = SCHEDULERS["step"](make("SGD")[0])
    with pytest.raises(StateError, match="StepLR cannot go on from it: ZeroDivisionError"):
        check_scheduler_state(scheduler, scheduler.state_dict() | {"step_size": 0})


def test_the_optimizer_of_somebody_else_is_not_judged() -> None:
    class Own(torch.optim.SGD):
        pass

    check_optimizer_state(Own([nn.Parameter(torch.zeros(1))]), "anything")


@pytest.mark.parametrize(
    ("name", "place", "wrong", "told"),
    [
        ("Adam", ("state", 0, "exp_avg"), torch.zeros(1).expand(3, 4), "exp_avg repeats some numbers in memory"),
        ("Adam", ("state", 0, "exp_avg"), torch.zeros(3, 4, dtype=torch.int64), "exp_avg has the dtype torch.int64"),
        ("Adam", ("state", 0, "exp_avg"), torch.zeros(3, 4) + 1j, "exp_avg has the dtype torch.complex64"),
        ("Adam", ("state", 0, "exp_avg"), torch.full((3, 4), math.nan), "exp_avg is NaN in parts"),
        ("Adam", ("state", 0, "exp_avg_sq"), torch.full((3, 4), -1.0), "exp_avg_sq has numbers below 0"),
        ("Adam", ("state", 0, "step"), torch.tensor(0.5), r"state\[0\].step is 0.5"),
        ("Adam", ("state", 0, "step"), torch.tensor(math.inf), r"state\[0\].step is inf"),
        (
            "Adam",
            ("state", 0, "step"),
            torch.tensor(3.0).half(),
            "step has the dtype torch.float16",
        ),
        ("Adam", ("state", 1, "step"), 3, r"state\[1\].step is a number, and that of another"),
        ("NAdam", ("state", 0, "mu_product"), torch.ones(1), r"mu_product has the shape \(1,\)"),
        ("Adafactor", ("state", 0, "row_var"), torch.zeros(4, 1), r"row_var has the shape \(4, 1\), and \(3, 1\)"),
        ("ASGD", ("state", 1, "ax"), torch.zeros(3), r"ax has the shape \(3,\), and \(4,\)"),
        ("SparseAdam", ("state", 0, "exp_avg"), "x", "exp_avg is 'x'"),
        ("SparseAdam", ("state", 0, "step"), torch.tensor(3.0), "step is a Tensor"),
        ("LBFGS", ("state", 0, "old_dirs"), [], "old_dirs and old_stps and ro"),
        ("LBFGS", ("state", 0, "al"), [], "al has 0 entries, and 100 were expected"),
        ("LBFGS", ("state", 0, "old_stps", 0), torch.zeros(3), r"old_stps\[0\] has the shape \(3,\), and \(16,\)"),
        ("LBFGS", ("state", 0, "d"), None, "d is None"),
        ("SGD", ("param_groups", 0, "params"), [1, 0], r"the parameters in another order than the code: \[1, 0\]"),
    ],
)
def test_what_is_in_a_state_is_compared_with_what_the_optimizer_would_keep(
    name: str, place: tuple[Any, ...], wrong: Any, told: str
) -> None:
    state: Any = trained(name)
    inner = state
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = wrong
    with pytest.raises(StateError, match=told):
        check_optimizer_state(make(name)[0], state)


def test_steps_that_were_counted_in_numbers_are_taken() -> None:
    state = trained("Adam")
    for each in state["state"].values():
        each["step"] = int(each["step"])
    check_optimizer_state(make("Adam")[0], state)


def test_what_is_lost_together_with_the_parameter_is_taken() -> None:
    optimizer, (weight, _) = make("SGD")
    state = trained("SGD")
    state["state"][0]["momentum_buffer"][0, 0] = math.nan
    weight.data[0, 0] = math.nan
    check_optimizer_state(optimizer, state)


def test_infinite_numbers_are_told() -> None:
    state = trained("Adam")
    state["state"][1]["exp_avg_sq"][0] = math.inf
    with pytest.warns(UserWarning, match=r"state\[1\].exp_avg_sq of an optimizer in the checkpoint is infinite"):
        check_optimizer_state(make("Adam")[0], state)


def test_a_state_that_a_hook_adapts_is_left_to_that() -> None:
    optimizer, _ = make("SGD")
    optimizer.register_load_state_dict_pre_hook(lambda optimizer, state: None)
    check_optimizer_state(optimizer, "anything")


class Packing(torch.optim.Optimizer):
    """Keeps what no optimizer of torch does: whole numbers with a scale, views, texts, and dicts in dicts."""

    def __init__(self, params: Any, lr: float = 0.1, pack: str = "int8") -> None:
        super().__init__(params, {"lr": lr, "pack": pack, "limits": {"low": -math.inf}})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for each in group["params"]:
                kept = self.state[each]
                if not kept:
                    kept |= {"step": torch.tensor([0], dtype=torch.int16), "packed": torch.zeros(each.shape).char()}
                    kept |= {"scale": torch.ones(1).expand(3), "seen": {"kinds": ["x"], "least": -math.inf}}
                kept["packed"] = (kept["packed"] + each.grad.mul(10).char()).clamp(-100, 100)
                kept["step"] += 1
                each -= group["lr"] * kept["packed"].float() / 100 * kept["scale"][0]


class Looking(torch.optim.AdamW):
    """AdamW that keeps slow weights too, in an own shape."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        result = super().step(closure)
        for each in self.param_groups[0]["params"]:
            slow = self.state[each].setdefault("slow", torch.zeros(1, *each.shape, dtype=torch.float64))
            slow += 0.1 * (each[None] - slow)
            each += 0.01 * slow[0].float()
        return result


@pytest.mark.parametrize("kind", [Packing, Looking])
def test_optimizers_of_others_go_on_exactly(kind: Any, tmp_path: Path) -> None:
    class Module(TinyModule):
        def configure_optimizers(self) -> Any:
            optimizer = kind(self.parameters(), lr=0.1)
            scheduler = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20, cycle_momentum=False)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def fit(max_epochs: int, ckpt_path: Path | None = None) -> Any:
        torch.manual_seed(0)
        trainer, module = quiet_trainer(max_epochs=max_epochs, default_root_dir=tmp_path), Module()
        trainer.fit(module, TinyData(), ckpt_path=ckpt_path)
        return trainer, module

    fit(2)[0].save_checkpoint(tmp_path / "a.ckpt")
    whole, resumed = fit(4)[1], fit(4, tmp_path / "a.ckpt")[1]
    assert all(map(torch.equal, whole.parameters(), resumed.parameters()))
