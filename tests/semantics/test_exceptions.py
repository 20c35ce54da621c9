"""What happens when something raises."""

from __future__ import annotations

import pytest
import torch

import trainkit
from trainkit.callbacks import EarlyStopping, Logger
from trainkit.errors import DataError, TrainkitError
from trainkit.strategies import SingleDevice
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class Boom(RuntimeError):
    """Raised by the tests."""


class Raises(TinyModule):
    """Raises in its second training step."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def training_step(self, batch, batch_idx):
        if batch_idx == 1:
            raise self.error
        return self.loss(batch)


@pytest.mark.parametrize("error", [Boom("boom"), KeyboardInterrupt(), SystemExit(3)], ids=lambda e: type(e).__name__)
def test_the_exception_itself_comes_back_after_on_exception_and_teardown(error):
    recorder = Recorder(only=["on_train_batch_end", "on_exception", "teardown", "on_train_end", "on_fit_end"])
    with pytest.raises(type(error)) as caught:
        quiet_trainer(callbacks=[recorder]).fit(Raises(error), TinyData(3))
    assert caught.value is error
    assert recorder.names == ["on_train_batch_end", "on_exception", "teardown"]
    assert recorder.arguments("on_exception") == [{"exception": error}]


def test_on_exception_is_called_for_all_and_never_masks_the_original():
    class Clumsy:
        name = "clumsy"

        def on_exception(self):
            raise ValueError("of my own")

    error = Boom("boom")
    before, after = Recorder(["on_exception"], name="before"), Recorder(["on_exception"], name="after")
    with pytest.raises(Boom) as caught:
        quiet_trainer(callbacks=[before, Clumsy(), after]).fit(Raises(error), TinyData(3))
    assert caught.value is error
    assert before.count("on_exception") == after.count("on_exception") == 1


def test_on_exception_reaches_the_module_too():
    class Module(Raises):
        def on_exception(self, exception):
            self.told = exception

    module = Module(Boom("boom"))
    with pytest.raises(Boom):
        quiet_trainer().fit(module, TinyData(3))
    assert module.told is module.error


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_evaluation_alone_calls_on_exception_and_teardown_too(stage):
    class Module(TinyModule):
        def validation_step(self, batch, batch_idx):
            raise Boom("boom")

        test_step = predict_step = validation_step

    recorder = Recorder(only=["on_exception", "teardown"])
    with pytest.raises(Boom):
        getattr(quiet_trainer(callbacks=[recorder]), stage)(Module(), TinyData(1))
    assert recorder.names == ["on_exception", "teardown"]


def test_teardown_runs_when_setup_itself_raises():
    class Module(TinyModule):
        def configure_optimizers(self):
            raise Boom("boom")

    recorder = Recorder(only=["setup", "on_fit_start", "on_exception", "teardown"])
    with pytest.raises(Boom):
        quiet_trainer(callbacks=[recorder]).fit(Module(), TinyData(1))
    assert recorder.names == ["setup", "on_exception", "teardown"]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "success"), (Boom("boom"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_loggers_are_closed_with_how_the_run_ended(tmp_path, error, status):
    closed = []

    class Closes(Logger):
        def log_metrics(self, metrics, step=None):
            pass

        def finalize(self, status):
            closed.append(status)

    trainer = quiet_trainer(logger=Closes(tmp_path))
    if error is None:
        trainer.fit(TinyModule(), TinyData(1))
    else:
        with pytest.raises(type(error)):
            trainer.fit(Raises(error), TinyData(3))
    assert closed == [status]


def test_an_exception_of_a_plugin_names_the_plugin_and_the_hook_in_a_note():
    class Fragile:
        name = "fragile"

        def on_train_batch_end(self):
            raise Boom("boom")

    with pytest.raises(Boom) as caught:
        quiet_trainer(callbacks=[Fragile()]).fit(TinyModule(), TinyData(2))
    (note,) = caught.value.__notes__
    assert "fragile" in note
    assert "on_train_batch_end" in note


def test_an_exception_of_the_training_step_is_blamed_on_no_plugin():
    with pytest.raises(Boom) as caught:
        quiet_trainer(callbacks=[Recorder()]).fit(Raises(Boom("boom")), TinyData(2))
    assert not [note for note in getattr(caught.value, "__notes__", []) if "recorder" in note.lower()]


def test_a_trainer_can_fit_again_after_an_exception():
    trainer = quiet_trainer(max_epochs=2)
    with pytest.raises(Boom):
        trainer.fit(Raises(Boom("boom")), TinyData(3))
    trainer.fit(TinyModule(), TinyData(3))
    assert trainer.current_epoch == 2


def test_state_says_how_a_run_ended():
    trainer = quiet_trainer()
    assert trainer.state.status == "initializing"
    trainer.fit(TinyModule(), TinyData(1))
    assert trainer.state.status == "finished"
    trainer = quiet_trainer()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(Raises(KeyboardInterrupt()), TinyData(2))
    assert trainer.state.status == "interrupted"


def test_state_says_so_when_a_run_fails_before_it_has_begun():
    class Module(TinyModule):
        def configure_callbacks(self):
            raise Boom("boom")

    trainer = quiet_trainer()
    with pytest.raises(Boom):
        trainer.fit(Module(), TinyData(1))
    assert (trainer.state.status, trainer.interrupted) == ("interrupted", True)
    trainer.fit(TinyModule(), TinyData(1))


def test_a_failing_teardown_reaches_everyone_once_and_is_told():
    class Fails:
        def teardown(self):
            raise Boom("boom")

    class Data(trainkit.DataModule):
        def train_dataloader(self):
            return TinyData(1)

        def on_exception(self, exception):
            recorded.append("data: on_exception")

        def teardown(self, stage):
            recorded.append("data: teardown")

    recorder, recorded = Recorder(only=["on_exception", "teardown"]), []
    trainer = quiet_trainer(callbacks=[Fails(), recorder])
    module = TinyModule()
    with pytest.raises(Boom):
        trainer.fit(module, datamodule=Data())
    assert recorder.names == ["teardown", "on_exception"]
    assert recorded == ["data: teardown", "data: on_exception"]
    assert trainer.state.status == "interrupted"
    with pytest.warns(UserWarning, match="outside a run"):
        module.log("late", 1.0)


def test_a_data_module_that_fails_to_let_go_keeps_nobody_from_teardown():
    class Data(trainkit.DataModule):
        def train_dataloader(self):
            return TinyData(1)

        def teardown(self, stage):
            raise Boom("of the data")

    class Fails:
        def teardown(self):
            raise ValueError("of a plugin")

    recorder = Recorder(only=["teardown"])
    with pytest.raises(Boom) as caught:
        quiet_trainer(callbacks=[Fails(), recorder]).fit(TinyModule(), datamodule=Data())
    assert recorder.count("teardown") == 1
    assert any("of a plugin" in note for note in caught.value.__notes__)


def test_a_call_that_finds_no_data_does_not_tear_down_that_of_the_call_before():
    torn_down = []

    class Data(trainkit.DataModule):
        def train_dataloader(self):
            return TinyData(1)

        def teardown(self, stage):
            torn_down.append(stage)

    trainer = quiet_trainer()
    trainer.fit(TinyModule(), datamodule=Data())
    with pytest.raises(DataError, match="no data to test with"):
        trainer.test(TinyModule())
    assert torn_down == ["fit"]


class RaisesOnce(TinyModule):
    """Raises in the third batch of training or of validation, the first time."""

    def __init__(self, where):
        super().__init__()
        self.where = where

    def raise_once(self, where, batch_idx):
        if batch_idx == 2 and self.where == where:
            self.where = ""
            raise Boom("boom")

    def training_step(self, batch, batch_idx):
        self.raise_once("train", batch_idx)
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.raise_once("val", batch_idx)
        return super().validation_step(batch, batch_idx)


def test_an_accumulation_group_that_an_exception_cut_short_weighs_nothing_in_the_next_fit():
    data, module, by_hand = TinyData(4), RaisesOnce("train"), TinyModule()
    trainer = quiet_trainer(accumulate_grad_batches=4)
    with pytest.raises(Boom):
        trainer.fit(module, data)
    trainer.fit(module, data)
    optimizer = by_hand.configure_optimizers()
    (sum(by_hand.loss(batch) for batch in data) / 4).backward()
    optimizer.step()
    torch.testing.assert_close(module.layer.weight, by_hand.layer.weight)


def test_a_validation_that_an_exception_cut_short_begins_again_in_the_next_fit():
    module, trainer, data = RaisesOnce("val"), quiet_trainer(), TinyData(4)
    with pytest.raises(Boom):
        trainer.fit(module, TinyData(2), data)
    trainer.fit(module, TinyData(2), data)
    metrics = trainer.callback_metrics
    assert quiet_trainer().validate(module, data, verbose=False)[0]["val/loss"] == pytest.approx(
        metrics["val/loss"].item()
    )


@pytest.mark.parametrize("hook", ["on_validation_epoch_end", "on_validation_end"])
def test_a_validation_whose_end_failed_is_made_again_before_its_metrics_are_asked_for(hook):
    class FailsOnce:
        failed = False

        def fail(self):
            if not self.failed:
                self.failed = True
                raise Boom("boom")

    setattr(FailsOnce, hook, FailsOnce.fail)
    trainer = quiet_trainer(callbacks=[FailsOnce(), EarlyStopping("val/loss")], max_epochs=2)
    with pytest.raises(Boom):
        trainer.fit(TinyModule(), TinyData(2), TinyData(1))
    trainer.fit(TinyModule(), TinyData(2), TinyData(1))
    assert (trainer.current_epoch, trainer.global_step) == (2, 4)


def test_call_within_a_running_call_is_refused():
    class Nested:
        def on_train_epoch_end(self, trainer, module):
            trainer.validate(module, TinyData(1))

    trainer = quiet_trainer(callbacks=[Nested()])
    with pytest.raises(TrainkitError, match=r"trainer.validate\(\) was called while trainer.fit\(\) is running"):
        trainer.fit(TinyModule(), TinyData(1))
    trainer.validate(TinyModule(), TinyData(1))


def test_another_trainer_may_run_the_module_within_a_run_and_leaves_its_log_alone():
    class Judge:
        def on_train_epoch_start(self, trainer, module):
            other = quiet_trainer()
            self.judged = other.validate(module, TinyData(1), verbose=False)
            assert module.trainer is trainer

    judge = Judge()
    trainer, module = quiet_trainer(callbacks=[judge]), TinyModule()
    trainer.fit(module, TinyData(2))
    assert judge.judged[0]["val/loss"] > 0
    assert "train/loss" in trainer.callback_metrics
    assert module.trainer is trainer


def test_an_error_that_cannot_be_printed_masks_no_other():
    class Unprintable(Exception):
        def __str__(self):
            raise ValueError("no words")

    class Fails:
        def on_exception(self):
            raise Unprintable

        def teardown(self):
            raise Unprintable

    error = Boom("boom")
    with pytest.raises(Boom) as caught:
        quiet_trainer(callbacks=[Fails()]).fit(Raises(error), TinyData(3))
    assert caught.value is error
    assert len([note for note in error.__notes__ if "Unprintable" in note]) == 2


def test_a_strategy_that_fails_to_let_go_masks_no_other_error():
    class Sticky(SingleDevice):
        def teardown(self):
            raise OSError("still held")

    error = Boom("boom")
    with pytest.raises(Boom) as caught:
        quiet_trainer(strategy=Sticky()).fit(Raises(error), TinyData(3))
    assert caught.value is error
    assert any("still held" in note for note in error.__notes__)
    with pytest.raises(OSError, match="still held"):
        quiet_trainer(strategy=Sticky()).fit(TinyModule(), TinyData(1))
