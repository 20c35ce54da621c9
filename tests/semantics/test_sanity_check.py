"""The few validation batches that are tried ahead of training leave nothing behind."""

from __future__ import annotations

import random

import numpy
import torch
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader

from trainkit.callbacks import EarlyStopping, ModelCheckpoint
from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_state, quiet_trainer


class Drawing(TinyModule):
    """Draws from every generator in validation."""

    def validation_step(self, batch, batch_idx):
        torch.rand(3)
        random.random()
        numpy.random.rand(2)
        super().validation_step(batch, batch_idx)


def random_states(trainer, module):
    name, keys, *rest = numpy.random.get_state()
    return torch.get_rng_state().tolist(), random.getstate(), (name, keys.tolist(), rest)


def test_it_runs_the_first_two_batches_by_default_and_says_that_it_does():
    recorder = Recorder(only=["on_validation_batch_start"], look=lambda trainer, module: trainer.sanity_checking)
    trainer = quiet_trainer(num_sanity_val_steps=2, callbacks=[recorder])
    trainer.fit(TinyModule(), TinyData(2), TinyData(4))
    assert recorder.seen("on_validation_batch_start") == [True] * 2 + [False] * 4


def test_minus_one_checks_all_and_zero_none():
    for steps, expected in ((-1, 4), (0, 0), (9, 4)):
        recorder = Recorder(only=["on_validation_batch_start"], look=lambda trainer, module: trainer.sanity_checking)
        quiet_trainer(num_sanity_val_steps=steps, callbacks=[recorder]).fit(TinyModule(), TinyData(2), TinyData(4))
        assert recorder.seen("on_validation_batch_start").count(True) == expected


def test_it_draws_no_random_numbers_that_training_would_see():
    def states(sanity_steps):
        torch.manual_seed(1)
        random.seed(1)
        numpy.random.seed(1)
        recorder = Recorder(only=["on_train_start", "on_train_end"], look=random_states)
        trainer = quiet_trainer(num_sanity_val_steps=sanity_steps, callbacks=[recorder])
        samples = [(x[0], y[0]) for x, y in TinyData(6)]
        trainer.fit(
            Drawing(),
            DataLoader(samples, batch_size=2, shuffle=True),
            DataLoader(samples, batch_size=2, shuffle=True),
        )
        return recorder.seen("on_train_start") + recorder.seen("on_train_end")

    assert states(sanity_steps=2) == states(sanity_steps=0)


def test_it_leaves_no_metrics_and_logs_nothing():
    recorder = Recorder(
        only=["on_log", "on_sanity_check_end", "on_train_start"],
        look=lambda trainer, module: (
            dict(trainer.callback_metrics),
            dict(trainer.logged_metrics),
            dict(trainer.progress_bar_metrics),
        ),
    )
    trainer = quiet_trainer(num_sanity_val_steps=2, callbacks=[recorder], log_every_n_steps=1)
    trainer.fit(TinyModule(), TinyData(2), TinyData(2))
    assert recorder.names[:2] == ["on_sanity_check_end", "on_train_start"]
    assert recorder.seen("on_train_start") == [({}, {}, {})]


def test_it_saves_nothing(tmp_path):
    recorder = Recorder(only=["on_train_start"], look=lambda trainer, module: list(tmp_path.rglob("*.ckpt")))
    callbacks = [ModelCheckpoint(dirpath=tmp_path, monitor="val/loss"), recorder]
    quiet_trainer(enable_checkpointing=True, num_sanity_val_steps=2, callbacks=callbacks).fit(
        TinyModule(), TinyData(2), TinyData(2)
    )
    assert recorder.seen("on_train_start") == [[]]
    assert list(tmp_path.rglob("*.ckpt"))


def test_it_stops_nothing():
    class Module(TinyModule):
        def validation_step(self, batch, batch_idx):
            self.log("val/score", 0.0 if self.trainer.sanity_checking else 1.0)

    stopping = EarlyStopping("val/score", mode="min", stopping_threshold=0.5, patience=10)
    trainer = quiet_trainer(max_epochs=3, num_sanity_val_steps=2, callbacks=[stopping])
    trainer.fit(Module(), TinyData(2), TinyData(2))
    assert trainer.global_step == 6


def test_should_stop_set_during_it_does_not_stop_the_run():
    class Module(TinyModule):
        def validation_step(self, batch, batch_idx):
            if self.trainer.sanity_checking:
                self.trainer.should_stop = True

    trainer = quiet_trainer(max_epochs=2, num_sanity_val_steps=1)
    trainer.fit(Module(), TinyData(2), TinyData(1))
    assert trainer.global_step == 4


def test_it_does_not_run_when_resuming(tmp_path):
    path = tmp_path / "run.ckpt"
    first = quiet_trainer(max_epochs=1)
    first.fit(TinyModule(), TinyData(2))
    first.save_checkpoint(path)
    recorder = Recorder(only=["on_sanity_check_start", "on_train_start"])
    trainer = quiet_trainer(max_epochs=2, num_sanity_val_steps=2, callbacks=[recorder])
    trainer.fit(TinyModule(), TinyData(2), TinyData(2), ckpt_path=path)
    assert recorder.names == ["on_train_start"]


def test_it_does_not_run_without_validation():
    recorder = Recorder(only=["on_sanity_check_start"])
    trainer = quiet_trainer(num_sanity_val_steps=2, callbacks=[recorder], limit_val_batches=0)
    trainer.fit(TinyModule(), TinyData(2), TinyData(2))
    quiet_trainer(num_sanity_val_steps=2, callbacks=[recorder]).fit(TinyModule(), TinyData(2))
    assert recorder.names == []


class Observing(TinyModule):
    """Counts, grows and assigns buffers in a forward, as the observers of quantization do."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("range", torch.zeros(0))
        self.register_buffer("last", torch.zeros(1), persistent=False)
        self.register_buffer("late", torch.nn.parameter.UninitializedBuffer())
        self.norm = torch.nn.BatchNorm1d(4)

    def on_validation_model_eval(self):
        """Stay in train mode, so that statistics are gathered."""

    def validation_step(self, batch, batch_idx):
        self.norm(batch[0])
        self.seen += 1
        self.range.resize_(2).copy_(batch[0].aminmax().min)
        self.last = batch[0].max().reshape(1)
        if is_lazy(self.late):
            self.late.materialize((1,))


def test_it_leaves_buffers_as_they_were():
    def buffers(trainer, module):
        return {name: buffer.clone() for name, buffer in module.named_buffers() if name != "late"}

    recorder = Recorder(only=["on_train_start", "on_train_end"], look=buffers)
    module = Observing()
    before = buffers(None, module)
    seen = module.seen
    quiet_trainer(max_epochs=1, num_sanity_val_steps=1, callbacks=[recorder]).fit(module, TinyData(1), TinyData(1))
    assert_same_state(recorder.seen("on_train_start")[0], before)
    assert module.seen is seen
    assert module.seen == 1  # the validation at the end of the epoch counts
