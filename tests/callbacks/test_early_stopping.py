from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainkit.callbacks import EarlyStopping
from trainkit.callbacks.early_stopping import EarlyStoppingReason
from trainkit.errors import ConfigError, MetricError, UnknownNameError
from trainkit.loops.stop import StopSignal
from trainkit.metrics.collector import MetricCollector
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class Scores(TinyModule):
    """Logs one of the given scores in every validation."""

    def __init__(self, *scores: float) -> None:
        super().__init__()
        self.scores = iter(scores)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        self.log("val/score", next(self.scores))


def fit(stopping: EarlyStopping, *scores: float, batches: int = 2, **arguments: Any) -> Any:
    """Train as many epochs as there are scores, unless it is stopped."""
    ckpt_path = arguments.pop("ckpt_path", None)
    trainer = quiet_trainer(**({"max_epochs": len(scores)} | arguments), callbacks=[stopping])
    trainer.fit(Scores(*scores), TinyData(batches), TinyData(1), ckpt_path=ckpt_path)
    return trainer


def checked(trainer_arguments: dict[str, Any], **arguments: Any) -> list[tuple[str, int]]:
    """Return in which hook and at which step of two epochs of four batches there was a check."""
    checks: list[tuple[str, int]] = []

    class Noted(EarlyStopping):
        def _check(self, trainer: Any) -> None:
            checks.append((recorder.names[-1], trainer.global_step))

    recorder = Recorder(["on_validation_end", "on_train_epoch_end"], stage="observe")
    val = trainer_arguments.pop("val", True)
    trainer = quiet_trainer(
        **({"max_epochs": 2} | trainer_arguments), callbacks=[recorder, Noted("val/loss", **arguments)]
    )
    trainer.fit(TinyModule(), TinyData(4), TinyData(1) if val else None)
    return checks


@pytest.mark.parametrize(
    ("arguments", "trainer_arguments", "expected"),
    [
        ({}, {}, [("on_train_epoch_end", 4), ("on_train_epoch_end", 8)]),
        ({}, {"val": False}, [("on_train_epoch_end", 4), ("on_train_epoch_end", 8)]),
        ({}, {"check_val_every_n_epoch": 2}, [("on_train_epoch_end", 8)]),
        ({}, {"val_check_interval": 2, "max_epochs": 1}, [("on_validation_end", 2), ("on_train_epoch_end", 4)]),
        ({}, {"val_check_interval": 3, "max_epochs": 1}, [("on_validation_end", 3)]),
        ({}, {"max_steps": 3}, []),
        (
            {"check_on_train_epoch_end": False},
            {"val_check_interval": 2, "max_epochs": 1},
            [("on_validation_end", 2), ("on_validation_end", 4)],
        ),
        ({"check_on_train_epoch_end": True}, {"val_check_interval": 2, "max_epochs": 1}, [("on_train_epoch_end", 4)]),
        ({"check_on_train_epoch_end": True}, {"max_steps": 3}, [("on_train_epoch_end", 3)]),
    ],
)
def test_when_it_checks(
    arguments: dict[str, Any], trainer_arguments: dict[str, Any], expected: list[tuple[str, int]]
) -> None:
    assert checked(dict(trainer_arguments), **arguments) == expected


@given(
    scores=st.lists(st.integers(-5, 5), min_size=1, max_size=15),
    patience=st.integers(1, 4),
    min_delta=st.integers(0, 2),
    mode=st.sampled_from(["min", "max"]),
)
def test_it_stops_after_patience_checks_without_improvement(
    scores: list[int], patience: int, min_delta: int, mode: Any
) -> None:
    sign = 1 if mode == "min" else -1
    best, waited, stops = math.inf, 0, False
    stopping = EarlyStopping("val/score", min_delta, patience, mode=mode)
    for score in scores:
        reason, _ = stopping._evaluate(torch.tensor(float(score)))
        if sign * score + min_delta < best:
            best, waited = sign * score, 0
        else:
            waited += 1
        stops = waited >= patience
        assert (reason is EarlyStoppingReason.PATIENCE_EXHAUSTED) == stops
        assert stopping.best_score == sign * best
        assert stopping.wait_count == waited


def test_it_ends_the_fit() -> None:
    stopping = EarlyStopping("val/score", patience=2)
    trainer = fit(stopping, 1.0, 0.5, 0.6, 0.5, 0.1)
    assert trainer.current_epoch == 4
    assert stopping.stopped_epoch == 3
    assert stopping.stopping_reason is EarlyStoppingReason.PATIENCE_EXHAUSTED
    assert stopping.stopping_reason_message == "val/score = 0.5 is no improvement, 2 in a row; the best was 0.5."
    assert stopping.best_score == 0.5


def test_a_run_it_did_not_stop_has_no_reason() -> None:
    stopping = EarlyStopping("val/score")
    assert fit(stopping, 3.0, 2.0, 1.0).current_epoch == 3
    assert (stopping.stopping_reason, stopping.stopped_epoch) == (EarlyStoppingReason.NOT_STOPPED, 0)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stops_at_once(score: float) -> None:
    stopping = EarlyStopping("val/score")
    assert fit(stopping, 1.0, score, 0.5).current_epoch == 2
    assert stopping.stopping_reason is EarlyStoppingReason.NON_FINITE_METRIC


def test_unless_it_need_not_be_finite_and_then_nan_is_no_improvement() -> None:
    stopping = EarlyStopping("val/score", patience=2, check_finite=False)
    assert fit(stopping, 1.0, math.nan, math.nan, 0.5).current_epoch == 3
    assert stopping.best_score == 1.0


@pytest.mark.parametrize(
    ("arguments", "scores", "epochs", "reason"),
    [
        ({"stopping_threshold": 0.5}, (1.0, 0.5, 0.4, 0.3), 3, EarlyStoppingReason.STOPPING_THRESHOLD),
        ({"stopping_threshold": 0.5, "mode": "max"}, (0.1, 0.5, 0.6, 0.7), 3, EarlyStoppingReason.STOPPING_THRESHOLD),
        ({"divergence_threshold": 2.0}, (1.0, 2.0, 2.1, 1.0), 3, EarlyStoppingReason.DIVERGENCE_THRESHOLD),
        (
            {"divergence_threshold": 0.0, "mode": "max"},
            (1.0, 0.0, -0.1, 1.0),
            3,
            EarlyStoppingReason.DIVERGENCE_THRESHOLD,
        ),
    ],
)
def test_thresholds(
    arguments: dict[str, Any], scores: tuple[float, ...], epochs: int, reason: EarlyStoppingReason
) -> None:
    stopping = EarlyStopping("val/score", **arguments)
    assert fit(stopping, *scores).current_epoch == epochs
    assert stopping.stopping_reason is reason


def test_a_stop_in_mid_epoch_ends_the_fit_there() -> None:
    trainer = fit(EarlyStopping("val/score", patience=1), 1.0, 2.0, 3.0, batches=6, val_check_interval=2, max_epochs=1)
    assert trainer.global_step == 4


def test_the_sanity_check_and_fast_dev_run_are_not_judged() -> None:
    stopping = EarlyStopping("val/score", patience=1)
    assert fit(stopping, 0.0, 1.0, 0.5, num_sanity_val_steps=1, max_epochs=2).current_epoch == 2
    assert fit(EarlyStopping("val/score", stopping_threshold=2.0), 1.0, fast_dev_run=True).should_stop is False


def test_a_fast_dev_run_finds_a_metric_that_is_missing() -> None:
    with pytest.raises(MetricError, match=r"EarlyStopping: no metric 'val/scor'(.|\n)*did you mean 'val/score'"):
        fit(EarlyStopping("val/scor"), 1.0, fast_dev_run=True)


def test_an_evaluation_is_not_judged() -> None:
    trainer = quiet_trainer(callbacks=[EarlyStopping("never/logged")])
    trainer.validate(TinyModule(), TinyData(1))


def test_a_missing_metric_is_an_error_with_the_nearest_spelling() -> None:
    with pytest.raises(MetricError, match=r"EarlyStopping: no metric 'val/scor'(.|\n)*did you mean 'val/score'"):
        fit(EarlyStopping("val/scor"), 1.0)


def test_without_strict_it_is_one_warning() -> None:
    with pytest.warns(UserWarning, match="no metric 'never' has been logged") as warned:
        assert fit(EarlyStopping("never", strict=False), 1.0, 2.0).current_epoch == 2
    assert len(warned) == 1


def test_all_ranks_stop_if_one_wants_to() -> None:
    def trainer(answers: list[bool]) -> Any:
        metrics = {"val/score": torch.tensor(1.0)}
        strategy = SimpleNamespace(any_rank=lambda flag: asked.append(flag) or answers[len(asked) - 1])
        run = SimpleNamespace(stop_signal=StopSignal())
        return SimpleNamespace(
            fast_dev_run=False,
            callback_metrics=metrics,
            metrics=SimpleNamespace(version=lambda name: 1, is_shared=lambda name: False),
            strategy=strategy,
            fit_run=run,
            current_epoch=7,
        )

    asked: list[bool] = []
    here = trainer([False, True])
    stopping = EarlyStopping("val/score")
    stopping._check(here)
    assert asked == [False, False]
    assert here.fit_run.stop_signal.asked_by == stopping.state_key
    assert (stopping.stopped_epoch, stopping.stopping_reason) == (7, EarlyStoppingReason.NOT_STOPPED)


def test_a_metric_that_one_rank_lacks_is_missing_on_all() -> None:
    strategy = SimpleNamespace(any_rank=lambda flag: True)
    metrics = {"val/score": torch.tensor(1.0)}
    with pytest.raises(MetricError):
        EarlyStopping("val/score")._check(
            SimpleNamespace(  # type: ignore[arg-type]
                fast_dev_run=False,
                callback_metrics=metrics,
                metrics=MetricCollector(strategy),
                strategy=strategy,
                num_val_batches=[1],
                last_checkpoint=None,
            )
        )


def test_what_it_has_seen_is_restored_and_arguments_are_not(tmp_path: Path) -> None:
    trainer = fit(EarlyStopping("val/score", patience=5), 1.0, 2.0, 3.0)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    resumed = EarlyStopping("val/score", patience=3)
    again = fit(resumed, 4.0, 0.5, max_epochs=5, ckpt_path=tmp_path / "a.ckpt")
    assert again.current_epoch == 4
    assert (resumed.patience, resumed.wait_count, resumed.best_score) == (3, 3, 1.0)


def test_state_is_plain_and_goes_into_a_fresh_one() -> None:
    stopping, fresh = EarlyStopping("a"), EarlyStopping("a")
    stopping._evaluate(torch.tensor(0.1))
    stopping._evaluate(torch.tensor(0.2))
    assert stopping.state_dict() == {
        "wait_count": 1,
        "stopped_epoch": 0,
        "best_score": torch.tensor(0.1).item(),
        "best_epoch": None,
        "stopped_with": None,
        "used_version": None,
    }
    fresh.load_state_dict(stopping.state_dict())
    assert torch.equal(fresh.best_score, stopping.best_score)


def test_two_that_watch_different_metrics_have_different_keys() -> None:
    assert EarlyStopping("a").state_key != EarlyStopping("b").state_key != EarlyStopping("b", mode="max").state_key


def test_verbose_says_what_it_sees(capsys: pytest.CaptureFixture[str]) -> None:
    fit(EarlyStopping("val/score", patience=1, verbose=True), 0.5, 0.25, 0.25)
    assert capsys.readouterr().out.splitlines() == [
        "EarlyStopping: val/score = 0.5 has improved; the best was inf.",
        "EarlyStopping: val/score = 0.25 has improved; the best was 0.5.",
        "EarlyStopping: val/score = 0.25 is no improvement, 1 in a row; the best was 0.25.",
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"monitor": ""}, ConfigError, "monitor=''"),
        ({"monitor": "a", "mode": "mx"}, UnknownNameError, "did you mean 'max'"),
        ({"monitor": "a", "patience": -1}, ConfigError, "patience=-1 must be a whole number"),
        ({"monitor": "a", "patience": 1.5}, ConfigError, "patience=1.5"),
        ({"monitor": "a", "min_delta": -0.1}, ConfigError, "min_delta=-0.1 must be a number of at least 0"),
        ({"monitor": "a", "min_delta": math.nan}, ConfigError, "min_delta=nan"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EarlyStopping(**arguments)
