from __future__ import annotations

from typing import Any

import pytest
import torch
from schedulefree import SGDScheduleFree
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from trainkit import JointOptimizer
from trainkit.callbacks import Callback, LearningRateMonitor
from trainkit.errors import ConfigError, UnknownNameError
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Rows(Callback):
    """Keeps the rows that loggers get."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def on_log(self, metrics: dict[str, float], step: int) -> None:
        kept = {name: value for name, value in metrics.items() if not name.startswith(("train/", "epoch"))}
        self.rows += [(step, kept)] if kept else []


class Configured(TinyModule):
    """Whose ``configure_optimizers`` is a function of its parameters."""

    def __init__(self, configure: Any) -> None:
        super().__init__()
        self.configure = configure
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return self.configure(list(self.parameters()))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.manual_backward(self.loss(batch))
        optimizers = self.optimizers()
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            optimizer.step()
            optimizer.zero_grad()


class Scheduled(TinyModule):
    """One SGD whose learning rate is 1, 2, 3, ... by steps of its scheduler."""

    def __init__(self, interval: str) -> None:
        super().__init__()
        self.interval = interval

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=1e-6)
        return [optimizer], [{"scheduler": LambdaLR(optimizer, lambda step: 1.0 + step), "interval": self.interval}]


def rows(module: TinyModule, monitor: LearningRateMonitor, **arguments: Any) -> list[tuple[int, dict[str, float]]]:
    """Train two epochs of two batches."""
    kept = Rows()
    trainer = quiet_trainer(**({"max_epochs": 2, "log_every_n_steps": 1} | arguments), callbacks=[monitor, kept])
    trainer.fit(module, TinyData(2))
    return kept.rows


def lr_rows(module: TinyModule, monitor: LearningRateMonitor, **arguments: Any) -> list[tuple[int, int]]:
    """Return the steps of all rows, and the learning rates in them as multiples of 1e-6."""
    return [(step, round(row["lr-SGD"] * 1e6)) for step, row in rows(module, monitor, **arguments)]


@pytest.mark.parametrize(
    ("interval", "logging_interval", "arguments", "expected"),
    [
        # A row tells by which rate the update was made that it belongs to.
        ("step", None, {}, [(1, 1), (2, 2), (3, 3), (4, 4)]),
        ("step", "step", {}, [(1, 1), (2, 2), (3, 3), (4, 4)]),
        ("step", None, {"log_every_n_steps": 3}, [(3, 3)]),
        ("step", None, {"accumulate_grad_batches": 2}, [(1, 1), (2, 2)]),
        ("step", None, {"log_every_n_steps": 0}, []),
        ("step", "epoch", {}, [(0, 1), (2, 3)]),
        ("step", None, {"log_every_n_steps": "3 steps"}, [(3, 3)]),
        ("step", None, {"log_every_n_steps": "3 batches"}, [(3, 3)]),
        ("step", None, {"log_every_n_steps": "4 samples"}, [(2, 2), (3, 3), (4, 4)]),
        ("step", None, {"log_every_n_steps": "1 epoch"}, [(2, 2), (4, 4)]),
        ("step", None, {"log_every_n_steps": "1 h"}, []),
        ("step", None, {"log_every_n_steps": "2 batches", "accumulate_grad_batches": 2}, [(1, 1), (2, 2)]),
        ("epoch", None, {}, [(0, 1), (2, 2)]),
        ("epoch", "step", {}, [(1, 1), (2, 1), (3, 2), (4, 2)]),
    ],
)
def test_rows(interval: str, logging_interval: Any, arguments: dict[str, Any], expected: list[tuple[int, int]]) -> None:
    assert lr_rows(Scheduled(interval), LearningRateMonitor(logging_interval), **arguments) == expected


def test_the_update_that_the_end_of_an_epoch_makes_has_its_row() -> None:
    class Leaves(Callback):
        def on_train_batch_start(self, batch_idx: int) -> int | None:
            return -1 if batch_idx == 1 else None

    for every in (1, "1 step", "1 batch"):
        kept = Rows()
        trainer = quiet_trainer(
            max_epochs=2,
            log_every_n_steps=every,
            accumulate_grad_batches=2,
            callbacks=[LearningRateMonitor(), Leaves(), kept],
        )
        trainer.fit(Scheduled("step"), TinyData(2))
        assert [step for step, row in kept.rows if "lr-SGD" in row] == [1, 2], every


def test_an_optimizer_without_scheduler_is_logged_at_both_intervals() -> None:
    assert [step for step, _ in rows(TinyModule(), LearningRateMonitor())] == [0, 1, 2, 2, 3, 4]


def test_a_resumed_epoch_does_not_begin_twice(tmp_path: Any) -> None:
    class Save(Callback):
        def on_train_batch_end(self, trainer: Any) -> None:
            if trainer.global_step == 1:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    quiet_trainer(callbacks=[Save()]).fit(Scheduled("epoch"), TinyData(2))
    kept = Rows()
    trainer = quiet_trainer(max_epochs=2, callbacks=[LearningRateMonitor(), kept])
    trainer.fit(Scheduled("epoch"), TinyData(2), ckpt_path=tmp_path / "a.ckpt")
    assert [step for step, _ in kept.rows] == [2]


def scheduler(optimizer: Optimizer, **config: Any) -> dict[str, Any]:
    return {"scheduler": LambdaLR(optimizer, lambda step: 1.0), **config}


def two_groups(parameters: list[Any], *names: str) -> Optimizer:
    groups = [{"params": [parameter]} for parameter in parameters]
    for group, name in zip(groups, names, strict=False):
        group["name"] = name
    return SGD(groups, lr=0.1)


@pytest.mark.parametrize(
    ("configure", "names"),
    [
        (lambda p: Adam(p), ["lr-Adam"]),
        (lambda p: [Adam(p[:1]), Adam(p[1:])], ["lr-Adam", "lr-Adam-1"]),
        (lambda p: [Adam(p[:1]), SGD(p[1:], lr=0.1)], ["lr-Adam", "lr-SGD"]),
        (lambda p: two_groups(p), ["lr-SGD/pg1", "lr-SGD/pg2"]),
        (lambda p: two_groups(p, "head"), ["lr-SGD/head", "lr-SGD/pg2"]),
        (lambda p: SGD([{"params": p, "name": "all"}], lr=0.1), ["lr-SGD/all"]),
        (lambda p: ([o := Adam(p)], [scheduler(o, name="warmup")]), ["warmup"]),
        (lambda p: ([o := two_groups(p)], [scheduler(o, name="warmup")]), ["warmup/pg1", "warmup/pg2"]),
        (lambda p: ([o := Adam(p)], [scheduler(o), scheduler(o)]), ["lr-Adam", "lr-Adam-1"]),
        (
            lambda p: ([a := Adam(p[:1]), b := SGD(p[1:])], [scheduler(a, name="slow"), scheduler(b, name="slow")]),
            ["slow", "slow-1"],
        ),
        # An optimizer without a scheduler comes after those with one.
        (lambda p: ([Adam(p[:1]), o := Adam(p[1:])], [scheduler(o)]), ["lr-Adam", "lr-Adam-1"]),
    ],
)
def test_names(configure: Any, names: list[str]) -> None:
    monitor = LearningRateMonitor("epoch")
    logged = rows(Configured(configure), monitor, max_epochs=1)
    assert [list(row) for _, row in logged] == [names]
    assert list(monitor.lrs) == names


def test_momentum_and_weight_decay() -> None:
    def configure(parameters: list[Any]) -> list[Optimizer]:
        return [Adam(parameters[:1], betas=(0.8, 0.9), weight_decay=0.3), SGD(parameters[1:], lr=0.1, momentum=0.7)]

    monitor = LearningRateMonitor("epoch", log_momentum=True, log_weight_decay=True)
    [(_, row)] = rows(Configured(configure), monitor, max_epochs=1)
    assert row == {
        "lr-Adam": 0.001,
        "lr-Adam-momentum": 0.8,
        "lr-Adam-weight_decay": 0.3,
        "lr-SGD": 0.1,
        "lr-SGD-momentum": 0.7,
        "lr-SGD-weight_decay": 0.0,
    }


def test_a_learning_rate_may_be_a_tensor() -> None:
    monitor = LearningRateMonitor("epoch")
    [(_, row)] = rows(Configured(lambda p: SGD(p, lr=torch.tensor(0.5))), monitor, max_epochs=1)
    assert row == {"lr-SGD": 0.5}


def test_a_group_without_a_rate_is_left_out() -> None:
    class OwnRate(SGD):
        """Finds the rate of its first group in each step."""

        def __init__(self, parameters: list[Any]) -> None:
            super().__init__([{"params": [parameter]} for parameter in parameters], lr=0.5)
            del self.param_groups[0]["lr"]

        def step(self, closure: Any = None) -> None:
            pass

    [(_, row)] = rows(Configured(OwnRate), LearningRateMonitor("epoch"), max_epochs=1)
    assert row == {"lr-OwnRate/pg2": 0.5}


def test_the_rate_is_the_one_that_the_update_has_used() -> None:
    def configure(parameters: list[Any]) -> Any:
        return SGDScheduleFree(parameters, lr=1e-6, warmup_steps=4)

    logged = rows(Configured(configure), LearningRateMonitor())
    assert [(step, row["lr-SGDScheduleFree"] * 4e6) for step, row in logged] == [
        (0, 0),  # none was used yet
        (1, 1),
        (2, 2),
        (2, 2),
        (3, 3),
        (4, 4),
    ]


def test_rates_in_tensors_are_read_for_rows_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    class Save(Callback):
        def on_train_batch_end(self, trainer: Any) -> None:
            if trainer.global_step == 1:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    class InTensors(TinyModule):
        def configure_optimizers(self) -> Any:
            optimizer = SGD(self.parameters(), lr=torch.tensor(1e-6))
            # Writes into the tensor.
            schedule = LambdaLR(optimizer, lambda step: 1.0 + step)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    looks = []
    as_float = torch.Tensor.__float__
    monkeypatch.setattr(LearningRateMonitor, "_send", lambda *_: looks.append("row"))
    monkeypatch.setattr(torch.Tensor, "__float__", lambda rate: looks.append("read") or as_float(rate))
    trainer = quiet_trainer(log_every_n_steps="4 batches", callbacks=[LearningRateMonitor("step")])
    trainer.fit(InTensors(), TinyData(7))
    assert looks == ["row"]
    monkeypatch.undo()
    assert lr_rows(InTensors(), LearningRateMonitor(), log_every_n_steps="3 batches") == [(3, 3)]
    kept = Rows()
    arguments: dict[str, Any] = {"log_every_n_steps": "2 batches", "accumulate_grad_batches": 2}
    quiet_trainer(callbacks=[LearningRateMonitor(), Save()], **arguments).fit(InTensors(), TinyData(4))
    trainer = quiet_trainer(callbacks=[LearningRateMonitor(), kept], **arguments)
    trainer.fit(InTensors(), TinyData(4), ckpt_path=tmp_path / "a.ckpt")
    assert [round(row["lr-SGD"] * 1e6) for _, row in kept.rows] == [2]


def test_the_rates_of_all_rows_are_kept() -> None:
    monitor = LearningRateMonitor("step")
    rows(Scheduled("step"), monitor)
    assert monitor.lrs == {"lr-SGD": pytest.approx([1e-6, 2e-6, 3e-6, 4e-6])}


def test_parameter_groups_of_one_name_are_an_error_when_the_fit_starts() -> None:
    with pytest.raises(ConfigError, match=r"SGD are named \['a', 'a'\]; names must differ"):
        rows(Configured(lambda p: two_groups(p, "a", "a")), LearningRateMonitor())


def test_an_unknown_interval_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"'step' or 'epoch'. How far .* says Trainer\(log_every_n_steps='10 steps'\)"
    ):
        LearningRateMonitor("10 steps")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="did you mean 'epoch'"):
        LearningRateMonitor("epochs")  # type: ignore[arg-type]


def test_learning_rates_are_among_the_callback_metrics():
    trainer = quiet_trainer(callbacks=[LearningRateMonitor()], log_every_n_steps=1)
    trainer.fit(Scheduled("step"), TinyData(2))
    assert trainer.callback_metrics["lr-SGD"] == pytest.approx(2e-6)


def test_the_parts_of_a_joint_optimizer_have_their_own_names() -> None:
    class Joint(TinyModule):
        def configure_optimizers(self) -> Any:
            one, *others = self.parameters()
            return JointOptimizer(SGD([one], lr=0.1), Adam([{"params": others, "name": "rest"}]))

    [(_, row)] = rows(Joint(), LearningRateMonitor("epoch"), max_epochs=1)
    assert row == {"lr-SGD": 0.1, "lr-Adam/rest": 0.001}
