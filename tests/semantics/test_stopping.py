"""What ends a run, and what still happens then."""

from __future__ import annotations

import datetime
import time

import pytest
import torch
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class EpochScheduled(TinyModule):
    """Halves its learning rate after each epoch."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0e-3)
        return [optimizer], [StepLR(optimizer, step_size=1, gamma=0.5)]


class StopAt:
    """Asks for the end after one batch of the run, counted from 1."""

    name = "stop_at"

    def __init__(self, batch):
        self.batch = batch

    def on_train_batch_end(self, trainer):
        if trainer.progress.total_batches == self.batch:
            trainer.should_stop = True


EVENTS = ["on_train_batch_end", "on_validation_start", "on_train_epoch_end"]


def test_max_steps_in_mid_epoch_ends_without_validation_and_epoch_scheduler_but_with_epoch_end():
    recorder = Recorder(only=EVENTS)
    trainer = quiet_trainer(max_epochs=5, max_steps=3, callbacks=[recorder])
    trainer.fit(EpochScheduled(), TinyData(num_batches=5), TinyData(num_batches=1))
    assert recorder.names == ["on_train_batch_end"] * 3 + ["on_train_epoch_end"]
    assert trainer.global_step == 3
    assert trainer.optimizers[0].param_groups[0]["lr"] == 1.0e-3


def test_max_steps_at_the_end_of_an_epoch_ends_it_as_any_other():
    recorder = Recorder(only=EVENTS)
    trainer = quiet_trainer(max_epochs=5, max_steps=5, callbacks=[recorder])
    trainer.fit(EpochScheduled(), TinyData(num_batches=5), TinyData(num_batches=1))
    assert recorder.names == ["on_train_batch_end"] * 5 + ["on_validation_start", "on_train_epoch_end"]
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.5e-3


def test_max_steps_counts_updates_and_not_batches():
    recorder = Recorder(only=["on_train_batch_end"])
    trainer = quiet_trainer(max_epochs=-1, max_steps=3, accumulate_grad_batches=2, callbacks=[recorder])
    trainer.fit(TinyModule(), TinyData(num_batches=4))
    assert trainer.global_step == 3
    assert recorder.count("on_train_batch_end") == 6


def test_should_stop_validates_before_leaving():
    recorder = Recorder(only=EVENTS)
    trainer = quiet_trainer(max_epochs=5, callbacks=[StopAt(2), recorder])
    trainer.fit(TinyModule(), TinyData(num_batches=5), TinyData(num_batches=1))
    assert recorder.names == ["on_train_batch_end"] * 2 + ["on_validation_start", "on_train_epoch_end"]
    assert trainer.global_step == 2


def test_should_stop_waits_for_min_epochs_and_validates_no_more_often_meanwhile():
    recorder = Recorder(only=EVENTS)
    trainer = quiet_trainer(max_epochs=5, min_epochs=2, callbacks=[StopAt(2), recorder])
    trainer.fit(TinyModule(), TinyData(num_batches=5), TinyData(num_batches=1))
    epoch = ["on_train_batch_end"] * 5 + ["on_validation_start", "on_train_epoch_end"]
    assert recorder.names == epoch * 2


def test_should_stop_waits_for_min_steps_and_leaves_in_mid_epoch():
    recorder = Recorder(only=EVENTS)
    trainer = quiet_trainer(max_epochs=5, min_steps=7, callbacks=[StopAt(2), recorder])
    trainer.fit(TinyModule(), TinyData(num_batches=5), TinyData(num_batches=1))
    assert recorder.names == [
        *["on_train_batch_end"] * 5,
        *["on_validation_start", "on_train_epoch_end"],
        *["on_train_batch_end"] * 2,
        *["on_validation_start", "on_train_epoch_end"],
    ]
    assert trainer.global_step == 7


def test_a_stop_that_was_asked_for_is_not_taken_back_by_somebody_who_does_not_ask_for_one():
    class Undecided:
        def on_train_batch_end(self, trainer):
            trainer.should_stop = False

    trainer = quiet_trainer(max_epochs=4, min_epochs=2, callbacks=[StopAt(2), Undecided()])
    with pytest.warns(UserWarning, match="should_stop = False is ignored: StopAt.on_train_batch_end has asked") as told:
        trainer.fit(TinyModule(), TinyData(num_batches=5))
    assert trainer.global_step == 10
    assert {each.filename for each in told} == {__file__}


def test_who_asks_for_no_stop_where_nobody_has_is_told_nothing():
    trainer = quiet_trainer(max_epochs=1)
    trainer.should_stop = False
    trainer.fit(TinyModule(), TinyData(1))
    trainer.should_stop = False  # warnings are errors


def test_should_stop_asked_in_validation_ends_the_run_after_it():
    class StopInValidation:
        def on_validation_end(self, trainer):
            trainer.should_stop = True

    recorder = Recorder(only=EVENTS)
    trainer = quiet_trainer(max_epochs=5, val_check_interval=2, callbacks=[StopInValidation(), recorder])
    trainer.fit(TinyModule(), TinyData(num_batches=5), TinyData(num_batches=1))
    assert recorder.names == ["on_train_batch_end"] * 2 + ["on_validation_start", "on_train_epoch_end"]


def test_max_epochs_none_means_a_thousand_with_a_warning():
    with pytest.warns(UserWarning, match=r"max_epochs.*1000"):
        trainer = quiet_trainer(max_epochs=None, callbacks=[StopAt(1)])
        trainer.fit(TinyModule(), TinyData(1))
    assert trainer.max_epochs == 1000


@pytest.mark.parametrize("other", [{"max_steps": 7}, {"max_time": "00:00:00:01"}], ids=["max_steps", "max_time"])
def test_max_epochs_none_is_no_limit_when_something_else_limits(other):
    assert quiet_trainer(max_epochs=None, **other).max_epochs == -1


def test_max_epochs_minus_one_is_no_limit():
    trainer = quiet_trainer(max_epochs=-1, callbacks=[StopAt(3000)])
    trainer.fit(TinyModule(), TinyData(num_batches=2))
    assert trainer.global_step == 3000


@pytest.mark.parametrize("arguments", [{"max_epochs": 0}, {"max_steps": 0}, {"limit_train_batches": 0}])
def test_zero_trains_nothing(arguments):
    recorder = Recorder(only=["on_train_batch_start", "on_validation_start", "on_train_epoch_start"])
    trainer = quiet_trainer(**arguments, callbacks=[recorder])
    trainer.fit(TinyModule(), TinyData(), TinyData())
    assert recorder.names == []
    assert trainer.global_step == 0


class HalfAnHourPerBatch(TinyModule):
    """Lets the clock of the process go on by half an hour in each training step."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.now_s = 1000.0
        for clock in ("monotonic", "perf_counter", "time"):
            monkeypatch.setattr(time, clock, lambda: self.now_s)

    def training_step(self, batch, batch_idx):
        self.now_s += 1800.0
        return self.loss(batch)


def test_max_time_stops_after_the_running_batch_and_validates(monkeypatch):
    recorder = Recorder(only=EVENTS)
    trainer = quiet_trainer(max_epochs=5, max_time=datetime.timedelta(minutes=50), callbacks=[recorder])
    trainer.fit(HalfAnHourPerBatch(monkeypatch), TinyData(num_batches=5), TinyData(num_batches=1))
    assert recorder.names == ["on_train_batch_end"] * 2 + ["on_validation_start", "on_train_epoch_end"]


@pytest.mark.parametrize("max_time", ["01:00:00:00", {"hours": 1}, datetime.timedelta(hours=1)])
def test_max_time_that_does_not_pass_changes_nothing(max_time):
    trainer = quiet_trainer(max_epochs=2, max_time=max_time)
    trainer.fit(TinyModule(), TinyData(num_batches=3))
    assert trainer.global_step == 6


def test_time_already_spent_is_in_the_checkpoint_and_counts_after_resuming(monkeypatch, tmp_path):
    path = tmp_path / "spent.ckpt"
    module, data = HalfAnHourPerBatch(monkeypatch), TinyData(num_batches=2)
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(module, data)
    trainer.save_checkpoint(path)
    module.now_s += 90_000.0  # what passes between two sessions does not count

    recorder = Recorder(only=["on_train_batch_end"])
    resumed = quiet_trainer(max_epochs=9, max_time="00:02:30:00", callbacks=[recorder])
    resumed.fit(module, data, ckpt_path=path)
    assert recorder.count("on_train_batch_end") == 3


def test_second_fit_says_that_nothing_is_left_to_do():
    trainer = quiet_trainer(max_epochs=2)
    module, data = TinyModule(), TinyData(num_batches=3)
    trainer.fit(module, data)
    with pytest.warns(UserWarning, match="max_epochs"):
        trainer.fit(module, data)
    assert trainer.global_step == 6


def test_second_fit_continues_the_counters_of_the_first():
    recorder = Recorder(
        only=["on_train_epoch_start"], look=lambda trainer, module: (trainer.current_epoch, trainer.global_step)
    )
    trainer = quiet_trainer(max_epochs=3, callbacks=[StopAt(3), recorder])
    module, data = TinyModule(), TinyData(num_batches=3)
    trainer.fit(module, data)
    assert (trainer.current_epoch, trainer.global_step) == (1, 3)
    trainer.fit(module, data)
    assert (trainer.current_epoch, trainer.global_step) == (3, 9)
    assert recorder.seen("on_train_epoch_start") == [(0, 0), (1, 3), (2, 6)]


@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_sanity_check_start"])
@pytest.mark.parametrize("min_epochs", [None, 2])
def test_a_stop_that_is_asked_for_before_training_is_honoured_as_soon_as_it_may_be(hook, min_epochs):
    class Stops:
        pass

    def stop(self, trainer):
        trainer.should_stop = True

    setattr(Stops, hook, stop)
    trainer = quiet_trainer(callbacks=[Stops()], max_epochs=4, min_epochs=min_epochs, num_sanity_val_steps=1)
    trainer.fit(TinyModule(), TinyData(2), TinyData(1))
    in_vain = hook == "on_sanity_check_start"  # which stops nothing
    assert trainer.current_epoch == (4 if in_vain else min_epochs or 0)
    assert trainer.should_stop is not in_vain


def test_a_stop_of_an_earlier_fit_is_forgotten():
    class Stops:
        def on_train_batch_end(self, trainer):
            trainer.should_stop = trainer.current_epoch == 0

    trainer = quiet_trainer(callbacks=[Stops()], max_epochs=4)
    trainer.fit(TinyModule(), TinyData(1))
    assert trainer.current_epoch == 1
    trainer.fit(TinyModule(), TinyData(1))
    assert trainer.current_epoch == 4


class Seen(TinyModule):
    def __init__(self):
        super().__init__()
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx, batch[0][0, 0].item()))
        return super().training_step(batch, batch_idx)


def test_a_fit_after_one_that_was_stopped_in_mid_epoch_begins_that_epoch_again():
    """With all of its samples: to go on behind them would skip as many of another order."""

    class StopsOnce:
        stopped = False

        def on_train_batch_end(self, trainer, batch_idx):
            trainer.should_stop = batch_idx == 2 and not self.stopped
            self.stopped |= trainer.should_stop

    x = torch.arange(5.0).repeat(4, 1).T
    loader = DataLoader(TensorDataset(x, torch.zeros(5, 2)), shuffle=True)
    trainer, module = quiet_trainer(callbacks=[StopsOnce()], max_epochs=2), Seen()
    trainer.fit(module, loader)
    assert (trainer.current_epoch, trainer.global_step) == (0, 3)
    trainer.fit(module, loader)
    again = module.seen[3:]
    assert [(epoch, batch_idx) for epoch, batch_idx, _ in again] == [(e, b) for e in range(2) for b in range(5)]
    assert {value for _, _, value in again[:5]} == set(range(5))
    assert (trainer.current_epoch, trainer.global_step) == (2, 13)


def test_a_stream_that_is_iterated_over_once_goes_on_in_the_next_fit():
    stream, module = iter(TinyData(6)), Seen()

    class Interrupts:
        def on_train_batch_end(self, batch_idx):
            if batch_idx == 1 and len(module.seen) == 2:
                raise ZeroDivisionError

    trainer = quiet_trainer(callbacks=[Interrupts()], max_epochs=1, limit_train_batches=3)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module, stream)
    trainer.fit(module, stream)
    assert [value for *_, value in module.seen[2:]] == [batch[0][0, 0].item() for batch in TinyData(6)[3:]]
