"""When learning rates change."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class Scheduled(TinyModule):
    """Its learning rate is the number of scheduler steps so far."""

    def __init__(self, **config):
        super().__init__()
        self.config = config

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        scheduler = LambdaLR(optimizer, lambda steps: float(steps) * 1e-6)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **self.config}}


class Plateau(TinyModule):
    """Divides its learning rate by 10 whenever the metric did not fall."""

    def __init__(self, monitor="val/score", scores=(), **config):
        super().__init__()
        self.config = {"monitor": monitor, **config}
        self.scores = list(scores)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        scheduler = ReduceLROnPlateau(optimizer, factor=0.1, patience=0, threshold=0.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **self.config}}

    def validation_step(self, batch, batch_idx):
        if self.scores:
            self.log("val/score", self.scores[self.current_epoch])


def steps_so_far(trainer, module):
    return round(trainer.optimizers[0].param_groups[0]["lr"] * 1e6)


def lr(trainer, module):
    return trainer.optimizers[0].param_groups[0]["lr"]


def test_epoch_interval_is_the_default_and_steps_once_an_epoch_before_validation():
    recorder = Recorder(only=["on_train_batch_end", "on_validation_start"], look=steps_so_far)
    quiet_trainer(max_epochs=2, callbacks=[recorder]).fit(Scheduled(), TinyData(2), TinyData(1))
    assert recorder.seen("on_train_batch_end") == [0, 1, 1, 2]
    assert recorder.seen("on_validation_start") == [1, 2]


def test_epoch_interval_steps_without_validation_too():
    recorder = Recorder(only=["on_train_epoch_end"], look=steps_so_far)
    quiet_trainer(max_epochs=2, callbacks=[recorder]).fit(Scheduled(), TinyData(2))
    assert recorder.seen("on_train_epoch_end") == [1, 2]


def test_validation_in_mid_epoch_does_not_step_an_epoch_scheduler():
    recorder = Recorder(only=["on_validation_start"], look=steps_so_far)
    quiet_trainer(callbacks=[recorder], val_check_interval=2).fit(Scheduled(), TinyData(4), TinyData(1))
    assert recorder.seen("on_validation_start") == [0, 1]


def test_step_interval_steps_after_updates_only():
    recorder = Recorder(only=["on_train_batch_end"], look=steps_so_far)
    trainer = quiet_trainer(accumulate_grad_batches=2, callbacks=[recorder])
    trainer.fit(Scheduled(interval="step"), TinyData(5))
    assert recorder.seen("on_train_batch_end") == [0, 1, 1, 2, 3]


def test_step_interval_does_not_step_where_a_batch_was_skipped():
    class Skipping(Scheduled):
        def training_step(self, batch, batch_idx):
            return None if batch_idx == 1 else self.loss(batch)

    recorder = Recorder(only=["on_train_batch_end"], look=steps_so_far)
    quiet_trainer(callbacks=[recorder]).fit(Skipping(interval="step"), TinyData(3))
    assert recorder.seen("on_train_batch_end") == [1, 1, 2]


def test_step_frequency_counts_updates_of_the_whole_run_and_not_the_batch_index():
    recorder = Recorder(only=["on_train_batch_end"], look=steps_so_far)
    quiet_trainer(max_epochs=2, callbacks=[recorder]).fit(Scheduled(interval="step", frequency=2), TinyData(3))
    assert recorder.seen("on_train_batch_end") == [0, 1, 1, 2, 2, 3]


def test_epoch_frequency_counts_epochs():
    recorder = Recorder(only=["on_train_epoch_end"], look=steps_so_far)
    quiet_trainer(max_epochs=5, callbacks=[recorder]).fit(Scheduled(frequency=2), TinyData(2))
    assert recorder.seen("on_train_epoch_end") == [0, 1, 1, 2, 2]


def test_plateau_steps_after_validation_with_the_metric_it_just_gave():
    recorder = Recorder(only=["on_validation_end", "on_train_epoch_start", "on_train_end"], look=lr)
    module = Plateau(scores=[1.0, 2.0, 0.5])
    quiet_trainer(max_epochs=3, callbacks=[recorder]).fit(module, TinyData(2), TinyData(1))
    assert recorder.seen("on_validation_end") == pytest.approx([1.0, 1.0, 0.1])
    assert recorder.seen("on_train_epoch_start") == pytest.approx([1.0, 1.0, 0.1])
    assert recorder.seen("on_train_end") == pytest.approx([0.1])


def test_plateau_can_follow_a_training_metric_logged_for_the_epoch():
    class Module(Plateau):
        def training_step(self, batch, batch_idx):
            self.log("train/score", [1.0, 2.0][self.current_epoch], on_epoch=True)
            return self.loss(batch)

    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(Module(monitor="train/score"), TinyData(2))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1)


def test_plateau_of_interval_step_follows_updates():
    class Module(Plateau):
        def training_step(self, batch, batch_idx):
            self.log("train/score", float(batch_idx))
            return self.loss(batch)

    recorder = Recorder(only=["on_train_batch_start", "on_train_end"], look=lr)
    trainer = quiet_trainer(callbacks=[recorder])
    trainer.fit(Module(monitor="train/score", interval="step", frequency=2), TinyData(4))
    assert recorder.seen("on_train_batch_start") == pytest.approx([1.0, 1.0, 1.0, 1.0])
    assert recorder.seen("on_train_end") == pytest.approx([0.1])


def test_plateau_of_interval_step_waits_for_the_validation_that_gives_its_metric():
    class Module(Plateau):
        def validation_step(self, batch, batch_idx):
            self.log("val/score", float(self.global_step))

    recorder = Recorder(only=["on_validation_start", "on_train_end"], look=lr)
    trainer = quiet_trainer(callbacks=[recorder], val_check_interval=1)
    trainer.fit(Module(interval="step"), TinyData(3), TinyData(1))
    assert recorder.seen("on_validation_start") == pytest.approx([1.0, 1.0, 0.1])
    assert recorder.seen("on_train_end") == pytest.approx([0.01])


@pytest.mark.parametrize(
    ("every", "expected"), [("2 steps", 0.1), ("2 batches", 0.1), ("6 samples", 0.1), ("1 step", 0.001)]
)
def test_plateau_of_a_unit_steps_once_with_each_value(every, expected):
    class Module(Plateau):
        def validation_step(self, batch, batch_idx):
            self.log("val/score", float(self.global_step))

    trainer = quiet_trainer(val_check_interval=1)
    trainer.fit(Module(every=every), TinyData(4), TinyData(1))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(expected)


def test_plateau_of_epochs_steps_behind_every_such_epoch():
    trainer = quiet_trainer(max_epochs=6)
    trainer.fit(Plateau(scores=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], every="2 epochs"), TinyData(2), TinyData(1))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01)


def test_a_batch_of_many_samples_steps_a_schedule_as_often_as_they_say():
    recorder = Recorder(only=["on_train_batch_start", "on_train_end"], look=steps_so_far)
    trainer = quiet_trainer(callbacks=[recorder])
    trainer.fit(Scheduled(every="2 samples"), TinyData(3, batch_size=5))
    assert recorder.seen("on_train_batch_start") + recorder.seen("on_train_end") == [0, 2, 5, 7]


def test_a_second_fit_counts_on_and_steps_at_nothing_of_the_first():
    recorder = Recorder(only=["on_train_batch_start", "on_train_end"], look=steps_so_far)
    trainer = quiet_trainer(callbacks=[recorder])
    trainer.fit(Scheduled(every="2 steps"), TinyData(3))
    trainer.max_epochs = 2
    recorder.calls.clear()
    trainer.fit(Scheduled(every="2 steps"), TinyData(3))
    assert recorder.seen("on_train_batch_start") + recorder.seen("on_train_end") == [0, 1, 1, 2]


def test_a_schedule_that_the_user_steps_goes_by_no_unit():
    class Module(Scheduled):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            self.optimizers().zero_grad()
            self.manual_backward(self.loss(batch))
            self.optimizers().step()

    trainer = quiet_trainer()
    trainer.fit(Module(every="1 step"), TinyData(3))
    assert steps_so_far(trainer, None) == 0


def test_plateau_without_monitor_is_an_error():
    with pytest.raises(ValueError, match=r"(?s)ReduceLROnPlateau.*monitor"):
        quiet_trainer().fit(Plateau(monitor=None), TinyData(2), TinyData(1))


def test_missing_metric_is_an_error_that_names_it_and_what_was_logged():
    class Module(Plateau):
        def validation_step(self, batch, batch_idx):
            self.log("val/scores", 1.0)

    with pytest.raises(ValueError, match=r"(?s)val/score\b.*val/scores"):
        quiet_trainer().fit(Module(), TinyData(2), TinyData(1))


def test_a_plateau_steps_where_a_seldom_validation_gives_a_value():
    def rates(**config):
        trainer = quiet_trainer(max_epochs=6, check_val_every_n_epoch=2)
        trainer.fit(Plateau(scores=[1.0] * 6, **config), TinyData(2), TinyData(1))
        return trainer.optimizers[0].param_groups[0]["lr"]

    assert rates() == rates(frequency=2) < 1.0


def test_missing_metric_with_strict_false_warns_and_skips():
    trainer = quiet_trainer()
    with pytest.warns(UserWarning, match="val/score"):
        trainer.fit(Plateau(strict=False), TinyData(2), TinyData(1))
    assert trainer.optimizers[0].param_groups[0]["lr"] == 1.0


def test_overridden_lr_scheduler_step_is_called_instead():
    stepped = []

    class Module(Scheduled):
        def lr_scheduler_step(self, scheduler, metric):
            stepped.append((type(scheduler).__name__, metric))
            scheduler.step()

    quiet_trainer(max_epochs=2).fit(Module(), TinyData(2))
    assert stepped == [("LambdaLR", None)] * 2


SHAPES = {
    "one optimizer": lambda optimizer, scheduler: optimizer,
    "list of one": lambda optimizer, scheduler: [optimizer],
    "two lists": lambda optimizer, scheduler: ([optimizer], [scheduler]),
    "two lists with a dict": lambda optimizer, scheduler: ([optimizer], [{"scheduler": scheduler}]),
    "dict": lambda optimizer, scheduler: {"optimizer": optimizer},
    "dict with scheduler": lambda optimizer, scheduler: {"optimizer": optimizer, "lr_scheduler": scheduler},
    "dict with config": lambda optimizer, scheduler: {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"},
    },
    "list of dicts": lambda optimizer, scheduler: [{"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler}}],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_configure_optimizers_trains_and_schedules(shape):
    class Module(TinyModule):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            return SHAPES[shape](optimizer, LambdaLR(optimizer, lambda steps: 0.5**steps))

    trainer = quiet_trainer()
    trainer.fit(Module(), TinyData(2))
    assert trainer.global_step == 2
    scheduled = "list of one" not in shape and shape not in ("one optimizer", "dict")
    assert trainer.optimizers[0].param_groups[0]["lr"] == (0.5 if scheduled else 1.0)
    assert len(trainer.lr_scheduler_configs) == int(scheduled)


def test_no_optimizer_at_all_runs_without_updates():
    class Module(TinyModule):
        def configure_optimizers(self):
            return None

    module = Module()
    before = module.layer.weight.detach().clone()
    trainer = quiet_trainer()
    with pytest.warns(UserWarning, match="configure_optimizers"):
        trainer.fit(module, TinyData(2))
    assert torch.equal(module.layer.weight, before)
