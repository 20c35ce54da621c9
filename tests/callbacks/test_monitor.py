from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit import Trainer
from trainkit.callbacks import EarlyStopping, ModelCheckpoint
from trainkit.callbacks.monitor import as_score, check_mode, check_monitor, is_better, missing_metric, worst
from trainkit.errors import ConfigError, MetricError, UnknownNameError
from trainkit.testing import TinyData, TinyModule, assert_same_weights, quiet_trainer


def test_better_is_strictly_better() -> None:
    assert is_better(torch.tensor(1.0), torch.tensor(2.0), "min")
    assert is_better(torch.tensor(2.0), 1.0, "max")
    assert not is_better(torch.tensor(1.0), 1.0, "min")
    assert not is_better(torch.tensor(1.0), 1.0, "max")
    assert not is_better(torch.tensor(math.nan), 1.0, "min")


def test_everything_beats_the_worst() -> None:
    assert is_better(torch.tensor(1e30), worst("min"), "min")
    assert is_better(torch.tensor(-1e30), worst("max"), "max")


@pytest.mark.parametrize("value", [torch.tensor(0.1), torch.tensor(0.1, dtype=torch.float64), torch.tensor([0.1])])
def test_a_score_survives_as_a_plain_number(value: torch.Tensor) -> None:
    score = as_score(value)
    assert score.shape == ()
    assert torch.equal(as_score(score.item()), score)
    assert as_score(score.item()).dtype == score.dtype


def test_nan_and_infinity_are_scores() -> None:
    assert as_score(math.nan).isnan()
    assert as_score(math.inf) == math.inf


def test_a_missing_metric_names_what_there_is_and_what_was_meant() -> None:
    message = missing_metric("val/los", ["val/loss", "train/loss"], "EarlyStopping")
    assert message.splitlines() == [
        "EarlyStopping: no metric 'val/los' has been logged.",
        "    logged       train/loss, val/loss",
        "    did you mean 'val/loss'?",
    ]


def test_a_metric_like_no_other_is_to_be_logged() -> None:
    assert "to do        self.log('val/loss', ...)" in missing_metric("val/loss", [], "EarlyStopping")


@pytest.mark.parametrize("monitor", ["", None, 3])
def test_a_monitor_is_a_name(monitor: object) -> None:
    with pytest.raises(ConfigError, match=r"monitor=.* must be the name of a logged metric"):
        check_monitor(monitor, "EarlyStopping")


def test_a_mode_is_min_or_max() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'max'"):
        check_mode("maxx", "EarlyStopping")


@pytest.mark.parametrize(
    ("monitor", "logged", "meant"),
    [
        ("loss_step", ["loss", "acc"], "'loss'"),
        ("val/loss_epoch", ["val/loss"], "'val/loss'"),
        ("val/loss", ["val/loss/dataloader_idx_0", "val/loss/dataloader_idx_1"], "'val/loss/dataloader_idx_0' or "),
        ("val/loss", ["val/loss_epoch/dataloader_idx_1", "val/acc"], "'val/loss_epoch/dataloader_idx_1'"),
        ("val/f1", ["train/f1", "lr-Adam"], "'train/f1'"),
        ("val_loss", ["train/loss", "val/loss"], "'val/loss' or 'train/loss'"),
        ("validation/f1_score", ["val/f1_score", "val/r2_score"], "'val/f1_score'?"),
        ("f1", ["model/head/val_f1", "val/loss"], "'model/head/val_f1'"),
        ("val/los", ["val/loss"], "'val/loss'"),
        (
            "val/loss",
            [
                "train/loss",
                "train/loss_epoch",
                "train/loss_step",
                "val/loss/dataloader_idx_0",
                "val/loss/dataloader_idx_1",
            ],
            "'val/loss/dataloader_idx_0' or 'val/loss/dataloader_idx_1'? There is one for each loader.",
        ),
        ("val_loss", ["test/loss", "train_loss", "validation/loss"], "'validation/loss' or "),
    ],
)
def test_near_misses_are_named(monitor: str, logged: list[str], meant: str) -> None:
    assert f"did you mean {meant}" in missing_metric(monitor, logged, "EarlyStopping")


class Logs(TinyModule):
    """Logs the given options in its validation and its training."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("acc", 1.0, on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/score", 1.0, **self.options)


@pytest.mark.parametrize(
    ("monitor", "options", "message"),
    [
        (
            "val/score",
            {"on_step": True, "on_epoch": False},
            r"'val/score' has been logged for single batches only.*self\.log\('val/score', \.\.\., on_epoch=True\)",
        ),
        ("val/score_step", {"on_step": True, "on_epoch": True}, "single batches only.*did you mean 'val/score_epoch'"),
        ("val/score_epoch", {}, "did you mean 'val/score'"),
        ("acc", {}, r"'acc' has no value before the end of the epoch.*self\.log\('acc', \.\.\., on_step=True\)"),
    ],
)
def test_what_was_logged_is_not_said_to_be_missing(monitor: str, options: dict[str, Any], message: str) -> None:
    trainer = quiet_trainer(val_check_interval=2, callbacks=[EarlyStopping(monitor)])
    with pytest.raises(MetricError, match=f"(?s){message}"):
        trainer.fit(Logs(**options), TinyData(4), TinyData(1))


@pytest.mark.filterwarnings("ignore:ModelCheckpoint. no metric")
@pytest.mark.parametrize("val_check_interval", [1.0, 2])
@pytest.mark.parametrize("callback", [EarlyStopping, ModelCheckpoint])
def test_the_run_goes_on_with_the_right_name(
    tmp_path: Path, callback: Callable[..., Any], val_check_interval: float
) -> None:
    def trainer(monitor: str) -> Trainer:
        return quiet_trainer(
            max_epochs=2,
            default_root_dir=tmp_path,
            enable_checkpointing=True,
            val_check_interval=val_check_interval,
            callbacks=[callback(monitor=monitor)],
        )

    whole, module = TinyModule(), TinyModule(seed=1)
    quiet_trainer(max_epochs=2).fit(whole, TinyData(4), TinyData(1))
    with pytest.raises(MetricError):
        trainer("val/los").fit(TinyModule(), TinyData(4), TinyData(1))
    goes_on = trainer("val/loss")
    goes_on.fit(module, TinyData(4), TinyData(1), ckpt_path="last")
    assert goes_on.global_step == 8
    assert_same_weights(module, whole)


def test_that_nothing_is_validated_is_said() -> None:
    trainer = quiet_trainer(callbacks=[EarlyStopping("val/loss")])
    with pytest.warns(UserWarning, match="there being no"), pytest.raises(MetricError, match="nothing is validated"):
        trainer.fit(TinyModule(), TinyData(4))
