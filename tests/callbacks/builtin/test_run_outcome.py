from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainkit import Trainer
from trainkit.callbacks import EarlyStopping, ModelCheckpoint
from trainkit.loggers.csv import CSVLogger
from trainkit.loggers.tensorboard.logger import TensorBoardLogger
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Scores(TinyModule):
    """Is best in epoch 1, where its score is 0.5 and its other one 2."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        away = abs(self.current_epoch - 1.0)
        self.log_dict({"score": 0.5 + away, "other": 2 - away})


class AtStep:
    """Does something behind an update."""

    def __init__(self, step: int, do: Callable[[Trainer], object]) -> None:
        self.step, self.do = step, do

    def on_train_batch_end(self, trainer: Trainer) -> None:
        if trainer.global_step == self.step:
            self.do(trainer)


class NoMoreError(Exception):
    pass


def fail(trainer: Trainer) -> None:
    raise NoMoreError("no more\nat all")


def summary(folder: Path, *callbacks: Any, ckpt_path: str | None = None, **arguments: Any) -> dict[str, Any]:
    """Return the summary of a fit of three epochs of four updates."""
    defaults = {"max_epochs": 3, "logger": CSVLogger(), "default_root_dir": folder, "enable_checkpointing": None}
    trainer = quiet_trainer(**{**defaults, "callbacks": list(callbacks), **arguments})
    try:
        trainer.fit(Scores(), TinyData(4), TinyData(1), ckpt_path=ckpt_path)
    except (NoMoreError, KeyboardInterrupt, SystemExit):
        assert trainer.interrupted
    found: dict[str, Any] = json.loads(Path(trainer.log_dir, "summary.json").read_text())
    return found


def test_a_fit_that_came_to_its_limit(tmp_path: Path) -> None:
    found = summary(tmp_path)
    assert (found["status"], found["reason"], found["error"]) == ("finished", "max_epochs=3 is reached", None)
    assert (found["epochs"], found["steps"]) == (3, 12)
    assert found["seconds"] > 0 and found["started"] <= found["ended"]
    assert found["last_checkpoint"] == "last.ckpt"


def test_the_best_values_are_told_with_their_steps(tmp_path: Path) -> None:
    saver = ModelCheckpoint(monitor="other", mode="max", filename="mine")
    found = summary(tmp_path, saver, EarlyStopping("score", patience=9))
    assert found["metrics"]["score"] == {"last": 1.5, "mode": "min", "best": 0.5, "best_step": 8}
    assert found["metrics"]["other"] == {"last": 1.0, "mode": "max", "best": 2.0, "best_step": 8}
    assert found["best_checkpoints"] == [{"path": "checkpoints/mine.ckpt", "monitor": "other", "score": 2.0}]


def test_of_what_is_not_monitored_least_and_greatest_are_told(tmp_path: Path) -> None:
    values = summary(tmp_path)["metrics"]["other"]
    assert values == {"last": 1.0, "min": 1.0, "min_step": 4, "max": 2.0, "max_step": 8}


def test_rows_that_are_written_when_all_ends_count(tmp_path: Path) -> None:
    found = summary(tmp_path, AtStep(10, fail), enable_checkpointing=False)
    assert found["metrics"]["score"]["last"] == 0.5
    assert found["last_checkpoint"] is None and found["best_checkpoints"] == []


def test_a_prefix_does_not_hide_what_is_monitored(tmp_path: Path) -> None:
    found = summary(tmp_path, EarlyStopping("score", patience=9), logger=CSVLogger(prefix="a"))
    assert found["metrics"]["a-score"]["best"] == 0.5


def test_who_has_stopped_it_is_told(tmp_path: Path) -> None:
    found = summary(tmp_path, EarlyStopping("score", patience=1), max_epochs=9)
    assert (found["status"], found["epochs"]) == ("stopped", 3)
    assert found["reason"].startswith("EarlyStopping: score = 1.5")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_is_told(tmp_path: Path, name: str) -> None:
    found = summary(tmp_path, AtStep(6, lambda trainer: signal.raise_signal(getattr(signal, name))))
    assert (found["status"], found["reason"], found["steps"]) == ("interrupted", f"interrupted by {name}", 6)
    assert found["last_checkpoint"] == "last.ckpt" and found["error"] is None


def test_an_error_is_told_with_the_plugin_that_raised_it(tmp_path: Path) -> None:
    found = summary(tmp_path, AtStep(6, fail))
    assert (found["status"], found["epochs"], found["steps"]) == ("failed", 1, 6)
    message = f"{__name__}.NoMoreError: no more\nat all"
    assert found["error"] == {"type": f"{__name__}.NoMoreError", "message": message, "plugin": "AtStep"}


def test_an_error_of_the_module_is_that_of_no_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scores, "training_step", lambda self, batch, batch_idx: fail(self.trainer))
    assert summary(tmp_path)["error"]["plugin"] is None


def test_a_run_that_goes_on_tells_what_was_best_before(tmp_path: Path) -> None:
    assert summary(tmp_path / "a", EarlyStopping("score", patience=9), max_epochs=2)["epochs"] == 2
    found = summary(tmp_path / "a", EarlyStopping("score", patience=9), ckpt_path="last")
    assert found["metrics"] == summary(tmp_path / "whole", EarlyStopping("score", patience=9))["metrics"]
    assert found["metrics"]["score"]["best_step"] == 8


def test_without_a_table_the_last_values_are_told(tmp_path: Path) -> None:
    found = summary(tmp_path, logger=TensorBoardLogger())
    assert found["metrics"]["score"] == {"last": 1.5}


def test_a_loss_that_is_no_number_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scores, "validation_step", lambda self, batch, batch_idx: self.log("score", math.nan))
    values = summary(tmp_path)["metrics"]["score"]
    assert values == {"last": "nan", "min": None, "min_step": None, "max": None, "max_step": None}


def test_of_what_is_never_finite_no_value_is_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scores, "validation_step", lambda self, batch, batch_idx: self.log("score", math.inf))
    values = summary(tmp_path, EarlyStopping("score", check_finite=False))["metrics"]["score"]
    assert values == {"last": "inf", "mode": "min", "best": None, "best_step": None}


def test_what_is_monitored_by_both_modes_has_no_best_one(tmp_path: Path) -> None:
    saver = ModelCheckpoint(monitor="score", mode="max")
    values = summary(tmp_path, saver, EarlyStopping("score", patience=9))["metrics"]["score"]
    assert values == {"last": 1.5, "min": 0.5, "min_step": 8, "max": 1.5, "max_step": 4}


def test_a_table_that_somebody_has_spoiled_costs_no_summary(tmp_path: Path) -> None:
    class Spoils:
        stage = "persist"

        def teardown(self, trainer: Trainer) -> None:
            with open(Path(trainer.log_dir, "metrics.csv"), "a") as file:
                file.write("inf,1,1\n")

    found = summary(tmp_path, Spoils())
    assert found["status"] == "finished" and found["metrics"]["score"] == {"last": 1.5}
