"""When validation runs."""

from __future__ import annotations

import datetime
import time

import pytest

from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


def validated_after(num_batches=5, **arguments):
    """Return how many batches of the whole run had been trained at each validation."""
    recorder = Recorder(only=["on_validation_start"], look=lambda trainer, module: trainer.progress.total_batches)
    trainer = quiet_trainer(callbacks=[recorder], **arguments)
    trainer.fit(TinyModule(), TinyData(num_batches=num_batches), TinyData(num_batches=1))
    return recorder.seen("on_validation_start")


def test_default_is_the_end_of_each_epoch():
    assert validated_after(max_epochs=2) == [5, 10]


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.4, [2, 4]), (0.5, [2, 4]), (0.2, [1, 2, 3, 4, 5]), (0.01, [1, 2, 3, 4, 5]), (1.0, [5]), (0.99, [4])],
)
def test_float_interval_is_a_share_of_the_batches_rounded_down_and_at_least_one(share, expected):
    assert validated_after(val_check_interval=share) == expected


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4]), (3, [3]), (5, [5])])
def test_int_interval_counts_batches_within_the_epoch(every, expected):
    assert validated_after(val_check_interval=every) == expected
    assert validated_after(val_check_interval=every, max_epochs=2) == expected + [5 + n for n in expected]


def test_int_interval_larger_than_the_epoch_is_an_error_that_names_the_way_out():
    with pytest.raises(ValueError, match=r"(?s)val_check_interval.*6.*5.*check_val_every_n_epoch=None"):
        validated_after(val_check_interval=6)


def test_without_epoch_cadence_an_int_interval_counts_across_epochs():
    assert validated_after(max_epochs=2, val_check_interval=3, check_val_every_n_epoch=None) == [3, 6, 9]
    assert validated_after(max_epochs=2, val_check_interval=7, check_val_every_n_epoch=None) == [7]


def test_every_n_epochs_validates_in_the_last_of_each_n():
    assert validated_after(max_epochs=4, check_val_every_n_epoch=2) == [10, 20]
    assert validated_after(max_epochs=2, check_val_every_n_epoch=2, val_check_interval=2) == [7, 9]


def test_timedelta_interval_is_wall_time_checked_after_each_batch():
    assert validated_after(num_batches=3, val_check_interval=datetime.timedelta(microseconds=1)) == [1, 2, 3]


@pytest.mark.parametrize("interval", [datetime.timedelta(hours=1), "00:01:00:00", {"hours": 1}])
def test_wall_time_that_does_not_pass_validates_not_even_at_the_end_of_an_epoch(interval):
    assert validated_after(max_epochs=2, val_check_interval=interval) == []


def test_wall_time_is_counted_from_the_last_validation(monkeypatch):
    now_s = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)

    class HalfAnHourPerBatch(TinyModule):
        def training_step(self, batch, batch_idx):
            nonlocal now_s
            now_s += 1800.0
            return self.loss(batch)

    recorder = Recorder(only=["on_validation_start"], look=lambda trainer, module: trainer.progress.total_batches)
    trainer = quiet_trainer(max_epochs=2, val_check_interval="00:01:15:00", callbacks=[recorder])
    trainer.fit(HalfAnHourPerBatch(), TinyData(num_batches=5), TinyData(num_batches=1))
    assert recorder.seen("on_validation_start") == [3, 6, 9]


def test_a_batch_is_validated_only_once_when_interval_and_epoch_end_fall_together():
    assert validated_after(num_batches=4, val_check_interval=2) == [2, 4]


def test_no_validation_without_a_loader_or_with_a_limit_of_zero():
    recorder = Recorder(only=["on_validation_start"])
    quiet_trainer(callbacks=[recorder]).fit(TinyModule(), TinyData())
    quiet_trainer(callbacks=[recorder], limit_val_batches=0).fit(TinyModule(), TinyData(), TinyData())
    assert recorder.names == []


@pytest.mark.parametrize(("interval", "expected"), [(0.5, [2, 4, 7, 10]), (0.99, [3, 9]), (2, [2, 4, 6, 8, 10])])
def test_a_share_is_one_of_the_running_epoch_when_loaders_are_made_anew_with_other_lengths(interval, expected):
    class Growing(TinyModule):
        lengths = iter([4, 6])

        def train_dataloader(self):
            return TinyData(num_batches=next(self.lengths))

    recorder = Recorder(only=["on_validation_start"], look=lambda trainer, module: trainer.progress.total_batches)
    trainer = quiet_trainer(
        max_epochs=2, reload_dataloaders_every_n_epochs=1, val_check_interval=interval, callbacks=[recorder]
    )
    trainer.fit(Growing(), val_dataloaders=TinyData(num_batches=1))
    assert recorder.seen("on_validation_start") == expected


def test_an_interval_that_does_not_fit_a_loader_made_anew_is_an_error():
    class Shrinking(TinyModule):
        lengths = iter([4, 2])

        def train_dataloader(self):
            return TinyData(num_batches=next(self.lengths))

    trainer = quiet_trainer(max_epochs=2, reload_dataloaders_every_n_epochs=1, val_check_interval=3)
    with pytest.raises(ValueError, match="val_check_interval=3 is more than the 2 training batches"):
        trainer.fit(Shrinking(), val_dataloaders=TinyData(num_batches=1))
