"""A run that goes on tells what differs in the code, goes on with the checkpoint's value, or with what is taken."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import pytest
import torch
import torch.optim.lr_scheduler as schedules
from torch.utils.data import DataLoader

from trainkit import Trainer
from trainkit.callbacks import EarlyStopping
from trainkit.errors import CheckpointError, ConfigError, UnknownNameError
from trainkit.testing import TinyData, TinyModule, assert_same_weights, quiet_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:OneCycleLR .* steps once per epoch:UserWarning"),
    pytest.mark.filterwarnings("ignore:.* rises again after:UserWarning"),
]

SAVED_AFTER, ENDS_AFTER = 4, 9


class Module(TinyModule):
    """Optimizes as it is told: with optimizer and scheduler as ``(class, arguments)``."""

    def __init__(self, optimizer: Any = (torch.optim.SGD, {}), scheduler: Any = None, **options: Any) -> None:
        super().__init__()
        self.hparams.clear()
        self.made = optimizer, scheduler, options

    def configure_optimizers(self) -> Any:
        (cls, arguments), scheduler, options = self.made
        optimizer = cls(self.parameters(), **{"lr": 0.1, **arguments})
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": make(optimizer, scheduler), **options}}


class Curve:
    """Notes what each epoch begins with."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer) -> None:
        self.rates.append(float(trainer.optimizers[0].param_groups[0]["lr"]))


def make(optimizer: torch.optim.Optimizer, described: Any) -> Any:
    cls, arguments = described
    if "schedulers" in arguments:
        inner = [make(optimizer, each) for each in arguments["schedulers"]]
        rest = {name: value for name, value in arguments.items() if name != "schedulers"}
        return cls(inner, **rest) if cls is schedules.ChainedScheduler else cls(optimizer, inner, **rest)
    return cls(optimizer, **arguments)


def saved(tmp_path: Any, module: TinyModule, data: Any = None, **arguments: Any) -> str:
    trainer = quiet_trainer(max_epochs=SAVED_AFTER, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, data or TinyData(2))
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    return str(tmp_path / "first.ckpt")


def resumed(path: str, module: TinyModule, take: Any = (), data: Any = None, **arguments: Any) -> Trainer:
    trainer = quiet_trainer(**{"max_epochs": ENDS_AFTER, "callbacks": [Curve()], **arguments})
    trainer.fit(module, data or TinyData(2), ckpt_path=path, take=take)
    return trainer


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """Return the lines of the table by what they are about: both values, and which holds."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().err.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) == 4 and line[0] != "what"}


def by_hand(module: Module) -> list[float]:
    """Return the rate of each epoch of a run that never stopped."""
    configured = module.configure_optimizers()
    optimizer, scheduler = configured, None
    if isinstance(configured, dict):
        optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(ENDS_AFTER):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if scheduler is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                scheduler.step()
    return rates


ADAM = {"lr": 0.2, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1, "amsgrad": True, "maximize": True}
OPTIMIZERS: dict[Any, dict[str, Any]] = {
    torch.optim.SGD: {
        "lr": 0.2,
        "momentum": 0.5,
        "dampening": 0.1,
        "weight_decay": 0.1,
        "maximize": True,
        "foreach": False,
    },
    torch.optim.Adam: ADAM,
    torch.optim.AdamW: ADAM,
    torch.optim.Adamax: {name: ADAM[name] for name in ("lr", "betas", "eps", "weight_decay", "maximize")},
    torch.optim.NAdam: {
        "lr": 0.2,
        "betas": (0.8, 0.99),
        "eps": 1e-6,
        "momentum_decay": 0.01,
        "decoupled_weight_decay": True,
    },
    torch.optim.RAdam: {"lr": 0.2, "betas": (0.8, 0.99), "eps": 1e-6, "decoupled_weight_decay": True},
    torch.optim.Adadelta: {"lr": 0.2, "rho": 0.8, "eps": 1e-5, "weight_decay": 0.1},
    torch.optim.Adagrad: {"lr": 0.2, "lr_decay": 0.1, "weight_decay": 0.1, "eps": 1e-6},
    torch.optim.Adafactor: {"lr": 0.2, "beta2_decay": -0.5, "d": 2.0, "weight_decay": 0.1},
    torch.optim.ASGD: {"lr": 0.2, "lambd": 1e-3, "alpha": 0.5, "t0": 1e5, "weight_decay": 0.1},
    torch.optim.RMSprop: {"lr": 0.2, "alpha": 0.5, "eps": 1e-6, "momentum": 0.1, "centered": True},
    torch.optim.Rprop: {"lr": 0.2, "etas": (0.4, 1.3), "step_sizes": (1e-5, 10)},
    torch.optim.LBFGS: {"lr": 0.2, "max_iter": 3, "max_eval": 9, "history_size": 5, "tolerance_grad": 1e-6},
}
CYCLES = (torch.optim.SGD, {"momentum": 0.9})
BY_EPOCH: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (schedules.StepLR, {"step_size": 2, "gamma": 0.5}, {"step_size": 3, "gamma": 0.7}),
    (schedules.MultiStepLR, {"milestones": [2, 5], "gamma": 0.5}, {"milestones": [3, 6], "gamma": 0.7}),
    (schedules.ConstantLR, {"factor": 0.5, "total_iters": 6}, {"factor": 0.25, "total_iters": 3}),
    (
        schedules.LinearLR,
        {"start_factor": 0.1, "end_factor": 0.9, "total_iters": 8},
        {"start_factor": 0.2, "end_factor": 0.7, "total_iters": 3},
    ),
    (schedules.ExponentialLR, {"gamma": 0.5}, {"gamma": 0.7}),
    (schedules.PolynomialLR, {"total_iters": 10, "power": 1.0}, {"total_iters": 12, "power": 2.0}),
    (schedules.CosineAnnealingLR, {"T_max": 5, "eta_min": 0.0}, {"T_max": 20, "eta_min": 0.01}),
    (
        schedules.CosineAnnealingWarmRestarts,
        {"T_0": 3, "T_mult": 2, "eta_min": 0.0},
        {"T_0": 4, "T_mult": 1, "eta_min": 0.01},
    ),
    (
        schedules.CyclicLR,
        {
            "base_lr": 0.01,
            "max_lr": 0.1,
            "step_size_up": 3,
            "step_size_down": 4,
            "mode": "exp_range",
            "gamma": 0.9,
            "cycle_momentum": True,
            "base_momentum": 0.7,
            "max_momentum": 0.9,
        },
        {
            "base_lr": 0.02,
            "max_lr": 0.2,
            "step_size_up": 5,
            "step_size_down": 3,
            "mode": "triangular2",
            "gamma": 0.8,
            "cycle_momentum": False,
            "base_momentum": 0.6,
            "max_momentum": 0.95,
        },
    ),
    (
        schedules.OneCycleLR,
        {
            "max_lr": 0.1,
            "total_steps": 20,
            "pct_start": 0.3,
            "anneal_strategy": "cos",
            "div_factor": 25.0,
            "final_div_factor": 1e4,
            "three_phase": False,
            "cycle_momentum": True,
            "base_momentum": 0.85,
            "max_momentum": 0.95,
        },
        {
            "max_lr": 0.2,
            "total_steps": 30,
            "pct_start": 0.4,
            "anneal_strategy": "linear",
            "div_factor": 10.0,
            "final_div_factor": 1e3,
            "three_phase": True,
            "cycle_momentum": False,
            "base_momentum": 0.8,
            "max_momentum": 0.9,
        },
    ),
]
STEP, EXPONENTIAL, COSINE = ((cls, before) for cls, before, _ in (BY_EPOCH[0], BY_EPOCH[4], BY_EPOCH[6]))
NESTED = [
    (schedules.SequentialLR, {"schedulers": [STEP, EXPONENTIAL], "milestones": [3]}),
    (schedules.ChainedScheduler, {"schedulers": [STEP, EXPONENTIAL]}),
]
PLATEAU = {
    "factor": 0.5,
    "patience": 2,
    "threshold": 1e-3,
    "threshold_mode": "abs",
    "cooldown": 1,
    "min_lr": 1e-5,
    "eps": 1e-7,
    "mode": "max",
}
ALL_SCHEDULES = [(cls, before) for cls, before, _ in BY_EPOCH] + NESTED


def optimizer_for(cls: Any) -> Any:
    return CYCLES if cls in (schedules.CyclicLR, schedules.OneCycleLR) else (torch.optim.SGD, {})


@pytest.mark.parametrize(
    ("cls", "name"), [(cls, name) for cls, edits in OPTIMIZERS.items() for name in edits], ids=lambda each: str(each)
)
def test_an_argument_of_an_optimizer_is_told_and_can_be_taken(
    cls: Any, name: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    # Not left to follow from max_iter.
    given = {"max_eval": 25} if cls is torch.optim.LBFGS else {}
    path, edited = saved(tmp_path, Module((cls, given))), OPTIMIZERS[cls][name]
    before = Module((cls, given)).configure_optimizers().param_groups[0][name]
    module = Module((cls, {**given, name: edited}))

    kept = resumed(path, module, max_epochs=SAVED_AFTER + 1)
    assert told(capsys) == {f"optimizer.{name}": [str(before), str(edited), "checkpoint"]}
    assert kept.optimizers[0].param_groups[0][name] == before

    taken = resumed(path, module, [name], max_epochs=SAVED_AFTER + 1)
    assert told(capsys) == {f"optimizer.{name}": [str(before), str(edited), "code"]}
    assert taken.optimizers[0].param_groups[0][name] == edited

    taken.save_checkpoint(path)
    again = resumed(path, module)
    assert told(capsys) == {}
    assert again.optimizers[0].param_groups[0][name] == edited


@pytest.mark.parametrize(
    ("cls", "before", "name", "edited"),
    [(cls, before, name, after[name]) for cls, before, after in BY_EPOCH for name in after],
    ids=lambda each: getattr(each, "__name__", str(each))[:20],
)
def test_an_argument_of_a_scheduler_is_told_and_the_curve_goes_on_as_if_it_had_been_so_from_the_start(
    cls: Any, before: Any, name: str, edited: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    if (cls, name) == (schedules.CyclicLR, "gamma"):
        edited = 0.8
    optimizer = optimizer_for(cls)
    path = saved(tmp_path, Module(optimizer, (cls, before)))
    module = Module(optimizer, (cls, {**before, name: edited}))

    kept = resumed(path, module)
    row = told(capsys)[f"scheduler.{name}"]
    assert row == [str(before[name]), str(edited), "checkpoint"]
    assert kept.callbacks[0].rates == pytest.approx(by_hand(Module(optimizer, (cls, before)))[SAVED_AFTER:])

    taken = resumed(path, module, [name])
    assert told(capsys)[f"scheduler.{name}"][-1] == "code"
    assert taken.callbacks[0].rates == pytest.approx(by_hand(module)[SAVED_AFTER:])
    assert taken.lr_scheduler_configs[0].scheduler.get_last_lr() == [
        group["lr"] for group in taken.optimizers[0].param_groups
    ]


@pytest.mark.parametrize("scheduler", ALL_SCHEDULES, ids=lambda each: each[0].__name__)
def test_a_base_rate_is_taken_and_the_schedule_stays_where_it_is(
    scheduler: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    if scheduler[0] in (schedules.CyclicLR, schedules.OneCycleLR):
        pytest.skip("its rates are arguments of its own")
    path = saved(tmp_path, Module(scheduler=scheduler))
    module = Module((torch.optim.SGD, {"lr": 0.4}), scheduler)

    taken = resumed(path, module, "lr")
    assert told(capsys) == {"optimizer.lr": ["0.1", "0.4", "code"]}
    assert taken.callbacks[0].rates == pytest.approx(by_hand(module)[SAVED_AFTER:])


@pytest.mark.parametrize("outer", [schedules.SequentialLR, schedules.ChainedScheduler])
def test_arguments_of_schedulers_within_another_are_told_and_taken(
    outer: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"milestones": [2]} if outer is schedules.SequentialLR else {}
    path = saved(tmp_path, Module(scheduler=(outer, {"schedulers": [STEP, EXPONENTIAL], **more})))
    edited = [(schedules.StepLR, {"step_size": 3, "gamma": 0.5}), (schedules.ExponentialLR, {"gamma": 0.8})]
    module = Module(scheduler=(outer, {"schedulers": edited, **more}))

    taken = resumed(path, module, ["step_size", "scheduler[1].gamma"])
    assert told(capsys) == {"scheduler[0].step_size": ["2", "3", "code"], "scheduler[1].gamma": ["0.5", "0.8", "code"]}
    assert taken.callbacks[0].rates == pytest.approx(by_hand(module)[SAVED_AFTER:])


@pytest.mark.parametrize("milestone", [1, 3, 6])
def test_milestones_of_a_sequence_are_taken(milestone: int, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    inner = [EXPONENTIAL, COSINE]
    path = saved(tmp_path, Module(scheduler=(schedules.SequentialLR, {"schedulers": inner, "milestones": [2]})))
    module = Module(scheduler=(schedules.SequentialLR, {"schedulers": inner, "milestones": [milestone]}))

    taken = resumed(path, module, ["milestones"])
    assert told(capsys) == {"scheduler.milestones": ["[2]", f"[{milestone}]", "code"]}
    assert taken.callbacks[0].rates == pytest.approx(by_hand(module)[SAVED_AFTER:])


class Warmup:
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def __call__(self, epoch: int) -> float:
        return min(1.0, (epoch + 1) / self.epochs)


def test_attributes_of_a_callable_are_told_and_taken(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (Module(scheduler=(schedules.LambdaLR, {"lr_lambda": Warmup(epochs)})) for epochs in (20, 10))
    path = saved(tmp_path, first)

    assert resumed(path, second).lr_scheduler_configs[0].scheduler.lr_lambdas[0].epochs == 20
    assert told(capsys) == {"scheduler.lr_lambda": ["{'epochs': 20}", "{'epochs': 10}", "checkpoint"]}

    second = Module(scheduler=(schedules.LambdaLR, {"lr_lambda": Warmup(10)}))
    taken = resumed(path, second, ["lr_lambda"])
    assert taken.callbacks[0].rates == pytest.approx(by_hand(second)[SAVED_AFTER:])


@pytest.mark.parametrize("name", PLATEAU)
def test_an_argument_of_a_plateau_is_told_and_taken(
    name: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    plateau = schedules.ReduceLROnPlateau
    path = saved(tmp_path, Module(scheduler=(plateau, {}), monitor="train/loss"))
    module = Module(scheduler=(plateau, {name: PLATEAU[name]}), monitor="train/loss")

    attribute = "min_lrs" if name == "min_lr" else name
    kept = getattr(resumed(path, module).lr_scheduler_configs[0].scheduler, attribute)
    assert list(told(capsys)) == [f"scheduler.{name}"]
    taken = getattr(resumed(path, module, name).lr_scheduler_configs[0].scheduler, attribute)
    assert taken == ([PLATEAU[name]] if name == "min_lr" else PLATEAU[name]) != kept


def test_a_rate_that_a_plateau_has_lowered_is_scaled(tmp_path: Any) -> None:
    schedule = (schedules.ReduceLROnPlateau, {"mode": "max", "patience": 0, "factor": 0.5})
    path = saved(tmp_path, Module(scheduler=schedule, monitor="train/loss"))
    reached = torch.load(path)["optimizer_states"][0]["param_groups"][0]["lr"]
    assert reached < 0.1

    module = Module((torch.optim.SGD, {"lr": 0.2}), schedule, monitor="train/loss")
    assert resumed(path, module, "lr").callbacks[0].rates[0] == pytest.approx(2 * reached)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda cls: cls.__name__)
def test_nothing_is_told_of_an_optimizer_if_nothing_has_changed(
    optimizer: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    never_told(tmp_path, capsys, lambda: Module((optimizer, {}), EXPONENTIAL))


@pytest.mark.parametrize("scheduler", ALL_SCHEDULES, ids=lambda each: each[0].__name__)
def test_nothing_is_told_of_a_schedule_if_nothing_has_changed(
    scheduler: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    never_told(tmp_path, capsys, lambda: Module(optimizer_for(scheduler[0]), scheduler))
    adam = (torch.optim.Adam, {})
    never_told(tmp_path, capsys, lambda: Module(adam, scheduler))


def never_told(tmp_path: Any, capsys: pytest.CaptureFixture[str], module: Any) -> None:
    path = saved(tmp_path, module())
    for ends_after in (SAVED_AFTER + 2, SAVED_AFTER + 4):
        trainer = resumed(path, module(), max_epochs=ends_after)
        trainer.save_checkpoint(path)
    assert capsys.readouterr().err == ""
    # Neither where there is no record: of a file of an older version.
    checkpoint = torch.load(path)
    del checkpoint["trainkit"]["made_with"]
    torch.save(checkpoint, path)
    resumed(path, module())
    assert capsys.readouterr().err == ""


class Hyper(Module):
    """Has hyperparameters, of which one is nested."""

    def __init__(self, hidden: int = 8, names: tuple[str, ...] = ("a",), config: Any = None, **made: Any) -> None:
        super().__init__(**made)
        self.save_hyperparameters("hidden", "names", "config")


def test_twelve_edits_are_twelve_told(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def loader(samples: int, batch_size: int) -> Any:
        return DataLoader([(torch.ones(4), torch.ones(2))] * samples, batch_size=batch_size)

    adam = {"lr": 0.1, "weight_decay": 0.0, "eps": 1e-8}
    module = Hyper(8, ("a",), {"deep": {"width": 1, "same": 2}}, optimizer=(torch.optim.Adam, adam), scheduler=COSINE)
    stopping = EarlyStopping("train/loss", patience=50)
    path = saved(tmp_path, module, loader(12, 2), callbacks=[stopping])
    adam = {"lr": 0.01, "weight_decay": 0.5, "eps": 1e-6}
    module = Hyper(
        16,
        ("a", "b"),
        {"deep": {"width": 3, "same": 2}},
        optimizer=(torch.optim.Adam, adam),
        scheduler=(schedules.CosineAnnealingLR, {"T_max": 50, "eta_min": 0.001}),
    )
    resumed(
        path,
        module,
        data=loader(18, 3),
        accumulate_grad_batches=2,
        callbacks=[EarlyStopping("train/loss", patience=60)],
        gradient_clip_val=1.0,
    )
    assert told(capsys) == {
        "optimizer.lr": ["0.1", "0.01", "checkpoint"],
        "optimizer.eps": ["1e-08", "1e-06", "checkpoint"],
        "optimizer.weight_decay": ["0.0", "0.5", "checkpoint"],
        "scheduler.T_max": ["5", "50", "checkpoint"],
        "scheduler.eta_min": ["0.0", "0.001", "checkpoint"],
        "batch_size": ["2", "3", "code"],
        "train_samples": ["12", "18", "code"],
        "accumulate_grad_batches": ["1", "2", "code"],
        "gradient_clip_val": ["None", "1.0", "code"],
        "callbacks.EarlyStopping.patience": ["50", "60", "code"],
        "hparams.hidden": ["8", "16", "code"],
        "hparams.names": ["('a',)", "('a', 'b')", "code"],
        "hparams.config.deep.width": ["1", "3", "code"],
    }


def test_versions_are_told(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, Module())
    checkpoint = torch.load(path)
    checkpoint["trainkit"]["made_with"] |= {"version.torch": "1.0", "version.trainkit": "0.0.1", "version.plug": "3"}
    torch.save(checkpoint, path)
    resumed(path, Module())
    rows = told(capsys)
    assert {name: row[0] for name, row in rows.items()} == {
        "version.trainkit": "0.0.1",
        "version.torch": "1.0",
        "version.plug": "3",
    }
    assert rows["version.plug"] == ["3", "-", "code"]


def test_plugins_that_come_or_go_are_told(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, Module(), callbacks=[EarlyStopping("train/loss")])
    resumed(path, Module())
    assert told(capsys) == {"callbacks.EarlyStopping": ["EarlyStopping", "-", "code"]}


def test_another_precision_is_told(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, Module())
    resumed(path, Module(), precision="bf16-mixed")
    assert told(capsys) == {"precision": ["32-true", "bf16-mixed", "code"]}


def test_when_a_scheduler_steps_is_what_the_code_says(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, Module(scheduler=EXPONENTIAL))
    resumed(path, Module(scheduler=EXPONENTIAL, frequency=2))
    assert told(capsys) == {"scheduler.frequency": ["1", "2", "code"]}


def test_a_value_that_is_not_taken_is_told_each_time(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, Module())
    for ends_after in (SAVED_AFTER + 1, SAVED_AFTER + 2):
        trainer = resumed(path, Module((torch.optim.SGD, {"lr": 0.5})), max_epochs=ends_after)
        trainer.save_checkpoint(path)
        assert told(capsys) == {"optimizer.lr": ["0.1", "0.5", "checkpoint"]}


# Other classes


@pytest.mark.parametrize("recorded", [True, False])
def test_the_state_of_another_optimizer_is_refused_or_left(
    recorded: bool, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path, Module((torch.optim.Adam, {}), EXPONENTIAL))
    if not recorded:
        checkpoint = torch.load(path)
        del checkpoint["trainkit"]["made_with"]
        torch.save(checkpoint, path)
    module = Module((torch.optim.SGD, {"momentum": 0.9}), EXPONENTIAL)
    with pytest.raises(CheckpointError, match=r"(?s)the state of .*SGD.*take=\['optimizer'\]"):
        resumed(path, module)

    capsys.readouterr()
    trainer = resumed(path, module, ["optimizer"])
    assert trainer.current_epoch == ENDS_AFTER
    assert trainer.global_step == 2 * ENDS_AFTER
    assert trainer.callbacks[0].rates == pytest.approx([0.1 * 0.5**k for k in range(ENDS_AFTER - SAVED_AFTER)])
    if recorded:
        assert told(capsys)["optimizer"] == ["Adam", "SGD", "code"]
    trainer.save_checkpoint(path)
    capsys.readouterr()
    resumed(path, module, max_epochs=ENDS_AFTER + 1)
    assert capsys.readouterr().err == ""


def test_an_optimizer_anew_trains_as_a_loop_by_hand(tmp_path: Any) -> None:
    first = Module((torch.optim.Adam, {}))
    path = saved(tmp_path, first)
    resumed_module = Module((torch.optim.SGD, {"momentum": 0.9}))
    resumed(path, resumed_module, ["optimizer"], max_epochs=SAVED_AFTER + 2)

    optimizer = torch.optim.SGD(first.parameters(), lr=0.1, momentum=0.9)
    for batch in [*TinyData(2)] * 2:
        optimizer.zero_grad()
        first.loss(batch).backward()
        optimizer.step()
    assert_same_weights(resumed_module, first)


@pytest.mark.parametrize("now", [None, COSINE], ids=["none", "cosine"])
@pytest.mark.parametrize("before", [None, STEP, (BY_EPOCH[9][0], BY_EPOCH[9][1])], ids=["none", "step", "one cycle"])
def test_another_scheduler_is_refused_or_begins_anew(before: Any, now: Any, tmp_path: Any) -> None:
    if before is now:
        pytest.skip("the same")
    path = saved(tmp_path, Module(CYCLES, before))
    module = Module(CYCLES, now)
    with pytest.raises(CheckpointError, match=r"take=\['scheduler'\]"):
        resumed(path, module)

    trainer = resumed(path, module, ["scheduler"])
    expected = by_hand(module)[: ENDS_AFTER - SAVED_AFTER]
    assert trainer.callbacks[0].rates == pytest.approx(expected)
    assert trainer.optimizers[0].param_groups[0]["momentum"] == 0.9


def test_other_parameter_groups_are_refused_or_begin_anew(tmp_path: Any) -> None:
    class TwoGroups(TinyModule):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([{"params": [p]} for p in self.parameters()], lr=0.3)

    path = saved(tmp_path, Module())
    with pytest.raises(CheckpointError, match=r"(?s)parameter groups.*take=\['optimizer'\]"):
        resumed(path, TwoGroups())
    assert resumed(path, TwoGroups(), "optimizer").optimizers[0].param_groups[1]["lr"] == 0.3


# Names to take


def test_a_name_that_nothing_has_is_an_error_with_the_nearest(tmp_path: Any) -> None:
    path = saved(tmp_path, Module(scheduler=COSINE))
    with pytest.raises(UnknownNameError, match=r"(?s)'Tmax'.*eta_min.*weight_decay.*did you mean 'T_max'"):
        resumed(path, Module(scheduler=COSINE), ["Tmax"])


def test_what_holds_in_any_case_may_be_named(tmp_path: Any) -> None:
    resumed(saved(tmp_path, Module()), Module(), ["precision"])


def test_nothing_is_taken_where_nothing_goes_on() -> None:
    with pytest.raises(ConfigError, match="there is no ckpt_path"):
        quiet_trainer().fit(Module(), TinyData(2), take=["lr"])


def test_a_first_run_that_asks_for_the_last_has_all_of_the_codes_values(tmp_path: Any) -> None:
    with pytest.warns(UserWarning, match="starting fresh"):
        quiet_trainer(default_root_dir=tmp_path).fit(Module(), TinyData(2), ckpt_path="last", take=["lr"])


def test_a_schedule_that_would_be_over_is_refused(tmp_path: Any) -> None:
    cls, before, _ = BY_EPOCH[9]
    path = saved(tmp_path, Module(CYCLES, (cls, before)))
    with pytest.raises(CheckpointError, match="cannot go on at step 4 with what was taken"):
        resumed(path, Module(CYCLES, (cls, {**before, "total_steps": 3})), ["total_steps"])


def test_several_optimizers_are_told_apart(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    class Two(TinyModule):
        def __init__(self, *rates: float) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.rates = rates

        def training_step(self, batch: Any, batch_idx: int) -> None:
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            for optimizer in self.optimizers():
                optimizer.step()

        def configure_optimizers(self) -> Any:
            pairs = zip(self.parameters(), self.rates, strict=True)
            return [torch.optim.SGD([parameter], lr=rate) for parameter, rate in pairs]

    path = saved(tmp_path, Two(0.1, 0.2))
    trainer = resumed(path, Two(0.3, 0.4), ["optimizers[1].lr"])
    assert told(capsys) == {
        "optimizers[0].lr": ["0.1", "0.3", "checkpoint"],
        "optimizers[1].lr": ["0.2", "0.4", "code"],
    }
    assert [each.param_groups[0]["lr"] for each in trainer.optimizers] == [0.1, 0.4]
    trainer = resumed(path, Two(0.3, 0.4), ["lr"])
    assert [each.param_groups[0]["lr"] for each in trainer.optimizers] == [0.3, 0.4]


def test_any_value_that_can_be_saved_is_told(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def module(value: Any) -> TinyModule:
        class Made(TinyModule):
            def configure_optimizers(self) -> Any:
                return torch.optim.SGD([{"params": [*self.parameters()], "mine": value}], lr=0.1)

        Made.__qualname__ = "Made"
        return Made()

    values = [math.nan, torch.tensor(2.5), torch.arange(40.0), {1, 2}, [*range(1000)], 0.1 + 0.2, "a\nb", None]
    for index, value in enumerate(values):
        path = saved(tmp_path, module(value))
        resumed(path, module(value))
        assert capsys.readouterr().err == "", value
        resumed(path, module(values[index - 1]))
        assert list(told(capsys)) == ["optimizer.mine"]
