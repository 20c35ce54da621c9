"""What is logged in an unusual place, or under a name of the row itself, reaches every logger or is told."""

from __future__ import annotations

import csv

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from trainkit.callbacks import Callback, ModelCheckpoint
from trainkit.errors import MetricError
from trainkit.loggers import CSVLogger, TensorBoardLogger
from trainkit.testing import Recorder, TinyModule, quiet_trainer


class Numbers(TinyModule):
    def training_step(self, batch, batch_idx):
        return self.layer.weight.sum()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        pass

    test_step = validation_step


def loader(size, batch_size=2):
    return DataLoader(torch.arange(float(size)), batch_size=batch_size)


def rows_of(run):
    recorder = Recorder(["on_log"])
    run(quiet_trainer(callbacks=[recorder], max_epochs=2, log_every_n_steps=1))
    return [(call["step"], call["metrics"]) for call in recorder.arguments("on_log")]


# Transfer hooks


@pytest.mark.parametrize("hook", ["on_before_batch_transfer", "on_after_batch_transfer"])
def test_a_value_of_a_transfer_hook_weighs_what_its_own_batch_does(hook):
    class Transfers(Numbers):
        pass

    def log(self, batch, dataloader_idx):
        self.log(f"{self.trainer.state.fn}/{dataloader_idx}", batch.mean(), on_step=False, on_epoch=True)
        return batch

    setattr(Transfers, hook, log)
    trainer = quiet_trainer()
    trainer.fit(Transfers(), loader(5))
    assert trainer.callback_metrics["fit/0"] == 2.0
    assert trainer.validate(Transfers(), [loader(5), loader(3)]) == [
        {"validate/0/dataloader_idx_0": 2.0},
        {"validate/1/dataloader_idx_1": 1.0},
    ]


def test_the_step_weighs_by_what_the_hook_returned():
    class Halves(Numbers):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            self.log("before", batch.mean(), on_step=False, on_epoch=True)
            return batch[:1]

        def training_step(self, batch, batch_idx):
            self.log("after", batch.mean(), on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

    trainer = quiet_trainer()
    trainer.fit(Halves(), loader(5))
    assert {name: value.item() for name, value in trainer.callback_metrics.items()} == {"before": 2.0, "after": 2.0}


# Single batches of an evaluation


class PerBatch(Numbers):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("x", batch.mean(), on_step=True, on_epoch=True)

    test_step = validation_step


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_each_batch_of_an_evaluation_has_its_row(stage):
    rows = rows_of(lambda trainer: getattr(trainer, stage)(PerBatch(), loader(5)))
    steps = [(0, {"epoch": 0, "x_step": value}) for value in (0.5, 2.5, 4.0)]
    assert rows == [*steps, (0, {"epoch": 0, "x_epoch": 2.0})]


def test_rows_of_a_validation_send_nothing_of_training():
    class Both(PerBatch):
        def training_step(self, batch, batch_idx):
            self.log("loss", float(batch_idx))
            return super().training_step(batch, batch_idx)

    recorder = Recorder(["on_log"])
    trainer = quiet_trainer(callbacks=[recorder], log_every_n_steps=2, val_check_interval=1, num_sanity_val_steps=2)
    trainer.fit(Both(), loader(4), [loader(2), loader(2)])
    rows = [
        (call["step"], [name for name in call["metrics"] if name != "epoch"]) for call in recorder.arguments("on_log")
    ]
    names = [f"x_{of}/dataloader_idx_{index}" for of in ("step", "epoch") for index in (0, 1)]
    validation = [[names[0]], [names[1]], names[2:]]
    assert rows == [*((1, row) for row in validation), (2, ["loss"]), *((2, row) for row in validation)]


def test_what_a_later_plugin_logs_for_the_last_batch_is_in_the_row_of_the_evaluation():
    class Late(Callback):
        stage = "persist"

        def on_validation_batch_end(self, module, batch_idx):
            module.log("late", float(batch_idx), on_step=True, on_epoch=False)

    recorder = Recorder(["on_log"])
    quiet_trainer(callbacks=[recorder, Late()]).validate(Numbers(), loader(3))
    assert [call["metrics"] for call in recorder.arguments("on_log")] == [
        {"epoch": 0, "late": 0.0},
        {"epoch": 0, "late": 1.0},
    ]


# Where no row follows


@pytest.mark.parametrize("of_module", [True, False])
@pytest.mark.parametrize("when", [{}, {"every_n_train_steps": 1}])
def test_nothing_can_be_logged_in_on_save_checkpoint(tmp_path, of_module, when):
    module = Numbers()

    class Logs(Callback):
        def on_save_checkpoint(self, module):
            module.log("saved", 1.0)

    if of_module:
        module.on_save_checkpoint = lambda checkpoint: module.log("saved", 1.0)
    callbacks = [ModelCheckpoint(tmp_path, **when), *([] if of_module else [Logs()])]
    trainer = quiet_trainer(callbacks=callbacks, enable_checkpointing=True, default_root_dir=tmp_path)
    with pytest.raises(MetricError, match=r"(?s)self.log\('saved'\).*here +on_save_checkpoint"):
        trainer.fit(module, loader(4), loader(2))


def test_it_can_be_logged_again_after_a_save(tmp_path):
    class Saves(Numbers):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.log("before", 1.0)
            self.trainer.save_checkpoint(tmp_path / "a.ckpt")
            self.log("after", 2.0)

    assert rows_of(lambda trainer: trainer.fit(Saves(), loader(2)))[0] == (1, {"epoch": 0, "before": 1.0, "after": 2.0})


@pytest.mark.parametrize("hook", ["on_validation_end", "on_train_epoch_end"])
def test_a_value_that_comes_after_the_row_is_told(hook):
    class Late(Callback):
        stage = "persist"

    late = Late()
    setattr(late, hook, lambda module: module.log("late", 1.0))
    trainer = quiet_trainer(callbacks=[late])
    with pytest.warns(UserWarning, match=r"self.log\('late'\) comes after the row of a .* was sent"):
        trainer.fit(Numbers(), loader(2), loader(2))
    assert trainer.callback_metrics["late"] == 1.0


# Names of the row itself


class OwnAxis(Numbers):
    def training_step(self, batch, batch_idx):
        self.log("step", 100.0 + self.global_step)
        self.log("loss", float(batch_idx))
        return super().training_step(batch, batch_idx)

    def on_validation_epoch_end(self):
        self.log_dict({"step": float(self.current_epoch), "epoch": 7.0, "score": 1.0})


def test_step_is_the_axis_of_every_logger_and_epoch_a_value_like_others(tmp_path):
    loggers = [CSVLogger(tmp_path, "csv", ""), TensorBoardLogger(tmp_path, "tb", "")]
    trainer = quiet_trainer(logger=loggers, max_epochs=2, log_every_n_steps=1)
    trainer.fit(OwnAxis(), loader(4), loader(2))
    rows = list(csv.DictReader((tmp_path / "csv" / "metrics.csv").read_text().splitlines()))
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    for name, steps in {"loss": [100, 101, 102, 103], "score": [0, 1], "epoch": [100, 101, 0, 102, 103, 1]}.items():
        assert [int(row["step"]) for row in rows if row[name]] == steps
        assert sorted(event.step for event in events.Scalars(name)) == sorted(steps)
    assert [float(row["epoch"]) for row in rows if row["score"]] == [7.0, 7.0]
    assert "step" not in events.Tags()["scalars"]


@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_a_step_that_is_no_whole_number_is_an_error(value):
    class Half(Numbers):
        def on_validation_epoch_end(self):
            self.log("step", value)

    with pytest.raises(MetricError, match=r"self.log\('step', (0.5|nan)\)"):
        quiet_trainer().validate(Half(), loader(2))


# Short fits


@pytest.mark.parametrize(("every", "told"), [(50, True), (3, True), (2, False), (0, False)])
def test_a_fit_without_a_row_of_training_says_so(tmp_path, capsys, every, told):
    trainer = quiet_trainer(logger=CSVLogger(tmp_path), log_every_n_steps=every)
    trainer.fit(OwnAxis(), loader(4))
    assert (f"2 updates and log_every_n_steps={every}: a smaller one writes some" in capsys.readouterr().err) == told


@pytest.mark.parametrize("module", [Numbers, PerBatch])
def test_one_that_logs_nothing_per_step_says_nothing(tmp_path, capsys, module):
    quiet_trainer(logger=CSVLogger(tmp_path)).fit(module(), loader(4), loader(2))
    assert "no row" not in capsys.readouterr().err
