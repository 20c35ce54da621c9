from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from trainkit.callbacks import Callback
from trainkit.errors import MetricError
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class Steps(TinyModule):
    """Notes every step of its schedulers; their learning rates do not matter."""

    def __init__(self, *configs: dict[str, Any], scores: Iterator[float] | None = None) -> None:
        super().__init__()
        self.configs = configs
        self.scores = scores
        self.steps: list[tuple[str, int, float | None]] = []

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedulers = []
        for config in self.configs:
            plateau = "monitor" in config
            scheduler = ReduceLROnPlateau(optimizer) if plateau else LambdaLR(optimizer, lambda step: 1.0)
            schedulers.append({"scheduler": scheduler, "name": "plateau" if plateau else "ordinary", **config})
        return [optimizer], schedulers

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if self.scores is not None:
            self.log("val/score", next(self.scores))

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        name = next(config.name for config in self.trainer.lr_scheduler_configs if config.scheduler is scheduler)
        self.steps.append((name, self.global_step, None if metric is None else float(metric)))
        super().lr_scheduler_step(scheduler, metric)


def scores() -> Iterator[float]:
    return (float(value) for value in range(1, 100))


def steps(module: Steps, batches: int = 4, **arguments: Any) -> list[Any]:
    """Train two epochs; return name, ``global_step`` and metric of every step of a scheduler."""
    ckpt_path = arguments.pop("ckpt_path", None)
    trainer = quiet_trainer(**({"max_epochs": 2} | arguments))
    trainer.fit(module, TinyData(batches), TinyData(1), ckpt_path=ckpt_path)
    return module.steps


def at(*global_steps: int) -> list[tuple[str, int, None]]:
    return [("ordinary", step, None) for step in global_steps]


@pytest.mark.parametrize(
    ("config", "arguments", "expected"),
    [
        ({"interval": "step"}, {}, at(1, 2, 3, 4, 5, 6, 7, 8)),
        ({"interval": "step", "frequency": 3}, {}, at(3, 6)),
        ({"interval": "step"}, {"accumulate_grad_batches": 3}, at(1, 2, 3, 4)),
        ({"interval": "epoch"}, {}, at(4, 8)),
        ({"interval": "epoch", "frequency": 2}, {"max_epochs": 5}, at(8, 16)),
        ({"interval": "epoch"}, {"max_steps": 6}, at(4)),
        ({"interval": "epoch"}, {"val_check_interval": 2}, at(4, 8)),
    ],
)
def test_when_an_ordinary_scheduler_steps(
    config: dict[str, Any], arguments: dict[str, Any], expected: list[Any]
) -> None:
    assert steps(Steps(config), **arguments) == expected


@pytest.mark.parametrize(
    ("config", "arguments", "expected"),
    [
        ({}, {}, [(4, 1.0), (8, 2.0)]),
        ({"frequency": 2}, {}, [(8, 2.0)]),
        ({}, {"val_check_interval": 2}, [(4, 2.0), (8, 4.0)]),
        ({"interval": "step", "frequency": 4}, {}, [(4, 1.0), (8, 2.0)]),
        ({"interval": "step", "frequency": 2}, {"val_check_interval": 2}, [(2, 1.0), (4, 2.0), (6, 3.0), (8, 4.0)]),
        ({"interval": "step", "frequency": 3}, {"val_check_interval": 2}, [(3, 1.0), (6, 3.0)]),
        ({}, {"max_steps": 6}, [(4, 1.0)]),
        ({}, {"max_epochs": 5, "check_val_every_n_epoch": 2}, [(8, 1.0), (16, 2.0)]),
        ({"interval": "step"}, {"val_check_interval": 2}, [(2, 1.0), (4, 2.0), (6, 3.0), (8, 4.0)]),
    ],
)
def test_when_a_plateau_steps_and_with_which_value(
    config: dict[str, Any], arguments: dict[str, Any], expected: list[tuple[int, float]]
) -> None:
    module = Steps({"monitor": "val/score", **config}, scores=scores())
    assert steps(module, **arguments) == [("plateau", *pair) for pair in expected]


def test_ordinary_schedulers_step_ahead_of_all_other_plugins_and_a_plateau_ahead_of_checkpoints() -> None:
    class Persists(Callback):
        stage = "persist"

        def on_train_epoch_end(self) -> None:
            module.steps.append("save point")  # type: ignore[arg-type]

    class First(Callback):
        stage = "setup"

        def on_train_batch_end(self) -> None:
            module.steps.append("batch end")  # type: ignore[arg-type]

    module = Steps({"interval": "step"}, {"monitor": "val/score"}, scores=scores())
    steps(module, batches=1, max_epochs=1, callbacks=[Persists(), First()])
    assert module.steps == [("ordinary", 1, None), "batch end", ("plateau", 1, 1.0), "save point"]


def test_an_update_is_followed_even_if_its_group_was_cut_short() -> None:
    class Skip(Callback):
        def on_train_batch_start(self, batch_idx: int) -> int | None:
            return -1 if batch_idx == 3 else None

    module = Steps({"interval": "step"}, {"interval": "epoch"})
    assert steps(module, accumulate_grad_batches=2, callbacks=[Skip()], max_epochs=1) == at(1, 2)


def test_a_batch_without_update_steps_nothing() -> None:
    class Skipping(Steps):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx % 2 else self.loss(batch)

    assert steps(Skipping({"interval": "step"}), max_epochs=1) == at(1, 2)


def test_with_manual_optimization_schedulers_are_the_users() -> None:
    class Manual(Steps):
        def __init__(self) -> None:
            super().__init__({"interval": "step"}, {"interval": "epoch"})
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.zero_grad()
            self.manual_backward(self.loss(batch))
            self.optimizers().step()  # type: ignore[union-attr]

    assert steps(Manual()) == []


def test_torch_does_not_warn_that_the_scheduler_came_first() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = TinyModule()
        module.configure_optimizers = lambda: (  # type: ignore[method-assign]
            [optimizer := torch.optim.SGD(module.parameters(), lr=0.1)],
            [{"scheduler": LambdaLR(optimizer, lambda step: 1.0), "interval": "step"}],
        )
        quiet_trainer().fit(module, TinyData(2))


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_missing_metric_is_an_error_with_the_nearest_spelling(interval: str) -> None:
    with pytest.raises(
        MetricError, match=rf"ReduceLROnPlateau \(interval '{interval}'\)(.|\n)*did you mean 'val/score'"
    ):
        steps(
            Steps(
                {"monitor": "val/scoer", "interval": interval, "frequency": 5 if interval == "step" else 1},
                scores=scores(),
            )
        )


def test_a_metric_that_the_first_validation_has_not_logged_is_missing_then() -> None:
    module = Steps({"monitor": "val/scoer"}, scores=scores())
    with pytest.raises(MetricError, match="did you mean 'val/score'"):
        steps(module, max_epochs=5, check_val_every_n_epoch=3)
    assert module.trainer.current_epoch == 2


def test_without_strict_a_missing_metric_is_one_warning_and_no_step() -> None:
    module = Steps({"monitor": "never", "strict": False})
    with pytest.warns(UserWarning, match="no metric 'never' has been logged") as warned:
        assert steps(module) == []
    assert len(warned) == 1


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4, 5, 6, 7])
def test_a_resumed_run_steps_the_same(tmp_path: Path, stop_at: int) -> None:
    class Save(Callback):
        def on_train_batch_end(self, trainer: Any) -> None:
            if trainer.global_step == stop_at:
                trainer.save_checkpoint(tmp_path / "stop.ckpt")

    def module() -> Steps:
        configs = [
            {"interval": "step", "frequency": 3},
            {},
            {"monitor": "val/score", "interval": "step", "frequency": 2},
        ]
        return Steps(*configs, scores=(float(step) for step in iter(lambda: whole.global_step, -1)))

    whole = Steps()
    whole = module()
    expected = steps(whole, callbacks=[Save()], val_check_interval=2)
    done = [step for step in expected if step[1] <= stop_at]
    # What waits for a validation is not done yet when the batch ends.
    waits = stop_at % 2 == 0
    unfinished, whole = whole, module()
    resumed = steps(whole, ckpt_path=tmp_path / "stop.ckpt", val_check_interval=2)
    assert resumed == expected[len(done) - waits :]
    assert unfinished.steps == expected


def test_another_validation_does_not_step_what_waits_for_one_in_a_fit() -> None:
    module = Steps({"monitor": "val/score", "interval": "step", "frequency": 4}, scores=scores())
    trainer = quiet_trainer(callbacks=[Recorder()])
    trainer.fit(module, TinyData(4), TinyData(1))
    before = list(module.steps)
    trainer.validate(module, TinyData(1))
    assert module.steps == before
