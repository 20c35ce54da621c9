from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from trainkit.callbacks import Callback, EarlyStopping, ModelCheckpoint
from trainkit.callbacks.builtin.monitor_watch import monitors_of
from trainkit.errors import MetricError
from trainkit.module.optimizers import SchedulerConfig
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def told(module: TinyModule, *callbacks: Any, val: bool = True, batches: int = 1, **arguments: Any) -> list[str]:
    """Return what is warned of in the first of four batches, or as many as are given."""

    class Stops(Callback):
        stage = "persist"

        def on_train_batch_end(self, batch_idx: int) -> None:
            if batch_idx == batches - 1:
                raise KeyboardInterrupt

    arguments = {"num_sanity_val_steps": 1} | arguments
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = quiet_trainer(**arguments, callbacks=[*callbacks, Stops()])
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(module, TinyData(4), TinyData(1) if val else None)
    return [str(each.message) for each in caught]


def stopping(monitor: str) -> EarlyStopping:
    return EarlyStopping(monitor)


class Plateau(TinyModule):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": scheduler, "monitor": "val_los"}


def test_a_metric_that_no_step_logs_is_told_with_the_first_update() -> None:
    (message,) = told(TinyModule(), stopping("val_los"))
    assert "EarlyStopping: no metric 'val_los' has been logged." in message
    assert "did you mean 'val/loss'?" in message
    assert "the sanity check and the first update" in message
    assert told(TinyModule(), stopping("val_los"), accumulate_grad_batches=2) == []
    assert len(told(TinyModule(), stopping("val_los"), accumulate_grad_batches=2, batches=2)) == 1


def test_one_that_may_be_missing_is_left_to_who_asks_for_it() -> None:
    assert told(TinyModule(), EarlyStopping("val_los", strict=False)) == []


def test_one_like_which_nothing_is_logged_may_still_come() -> None:
    assert told(TinyModule(), stopping("frechet_distance")) == []


def test_one_of_a_scheduler_is_too() -> None:
    (message,) = told(Plateau())
    assert "ReduceLROnPlateau: no metric 'val_los'" in message


def test_it_is_told_that_there_is_no_validation_data() -> None:
    (message,) = told(TinyModule(), stopping("val/loss"), val=False)
    assert "no validation data" in message


class LogsForEpochs(TinyModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("epoch", loss, on_step=False, on_epoch=True)
        self.log("both", loss, on_step=True, on_epoch=True)
        return loss


@pytest.mark.parametrize("monitor", ["train/loss", "val/loss", "epoch", "both", "both_epoch", "both_step"])
def test_what_is_logged_in_any_way_is_not(monitor: str) -> None:
    assert told(LogsForEpochs(), stopping(monitor)) == []


class AtEpochEnd(TinyModule):
    def on_train_epoch_end(self) -> None:
        self.log("mine", 1.0)


class OutsideOfTheSanityCheck(TinyModule):
    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.log("mine", 1.0)


def helper(module: TinyModule) -> bool:
    return module.trainer.sanity_checking


class AsksInAHelper(TinyModule):
    def on_validation_epoch_end(self) -> None:
        if not helper(self):
            self.log("mine", 1.0)


class AsksTheState(TinyModule):
    def on_validation_epoch_end(self) -> None:
        if self.trainer.state.stage != "sanity_check":
            self.log("mine", 1.0)


class LogsWithTheUpdate(TinyModule):
    def on_before_optimizer_step(self) -> None:
        self.log("mine", 1.0)


class LogsInPlugin(Callback):
    def on_train_epoch_end(self, module: TinyModule) -> None:
        module.log("mine", 1.0)


def test_what_may_still_be_logged_is_not() -> None:
    assert told(AtEpochEnd(), stopping("mine")) == []
    for module in (OutsideOfTheSanityCheck(), AsksInAHelper(), AsksTheState()):
        assert told(module, stopping("mine")) == []
    assert told(LogsWithTheUpdate(), stopping("mine"), accumulate_grad_batches=2, batches=2) == []
    assert told(TinyModule(), stopping("mine"), LogsInPlugin()) == []
    assert told(TinyModule(), stopping("mine"), num_sanity_val_steps=0) == []


def test_counters_are_no_metrics(tmp_path: Any) -> None:
    assert told(TinyModule(), ModelCheckpoint(tmp_path, monitor="step"), enable_checkpointing=True) == []


def test_it_leaves_after_the_first_update() -> None:
    seen: list[bool] = []

    class Looks(Callback):
        def on_train_batch_end(self, trainer: Any) -> None:
            seen.append(any("MonitorWatch" in name for name, _ in trainer.hooks.plugins))

    quiet_trainer(callbacks=[Looks(), stopping("val/loss")]).fit(TinyModule(), TinyData(3), TinyData(1))
    assert seen[1:] == [False, False]


def test_monitors_are_those_of_callbacks_and_schedulers() -> None:
    optimizer = torch.optim.SGD(TinyModule().parameters(), lr=0.1)
    config = SchedulerConfig(torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer), monitor="b")
    owners = [EarlyStopping("a"), config, ModelCheckpoint(), object()]
    assert monitors_of(owners) == {"a": "EarlyStopping", "b": "ReduceLROnPlateau"}


def test_a_fast_dev_run_ends_with_the_error() -> None:
    for callback in (stopping("val_los"), ModelCheckpoint("nowhere", monitor="val_los")):
        trainer = quiet_trainer(callbacks=[callback], fast_dev_run=True, enable_checkpointing=True)
        with pytest.raises(MetricError, match="did you mean 'val/loss'"):
            trainer.fit(TinyModule(), TinyData(1), TinyData(1))
