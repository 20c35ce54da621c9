"""Everything is made ready for a loop in one order, which users rely on."""

from __future__ import annotations

import pytest

from trainkit import DataModule
from trainkit.loops.run import FitRun
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class NotesItsCalls(TinyModule):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def setup(self, stage):
        self.calls.append("setup")

    def configure_model(self):
        self.calls.append("configure_model")

    def on_load_checkpoint(self, checkpoint):
        self.calls.append("on_load_checkpoint")

    def load_state_dict(self, *args, **kwargs):
        self.calls.append("load_state_dict")
        return super().load_state_dict(*args, **kwargs)

    def configure_optimizers(self):
        self.calls.append("configure_optimizers")
        return super().configure_optimizers()

    def on_fit_start(self):
        self.calls.append("on_fit_start")


class NotesLoaders(DataModule):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def prepare_data(self):
        self.calls.append("prepare_data")

    def train_dataloader(self):
        self.calls.append("train_dataloader")
        return TinyData(2)


def test_the_order_is_the_same_with_a_checkpoint_and_without(tmp_path):
    calls = []
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(NotesItsCalls(calls), datamodule=NotesLoaders(calls))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    before, after = ["prepare_data", "setup", "configure_model"], ["configure_optimizers", "train_dataloader"]
    assert calls == [*before, *after, "on_fit_start"]
    calls.clear()
    resumed = quiet_trainer(max_epochs=2)
    resumed.fit(NotesItsCalls(calls), datamodule=NotesLoaders(calls), ckpt_path=tmp_path / "a.ckpt")
    assert calls == [*before, "on_load_checkpoint", "load_state_dict", *after, "on_fit_start"]


def test_a_run_is_built_complete_ahead_of_its_first_hook():
    runs = []

    class Keeps:
        def on_fit_start(self, trainer):
            run = trainer.run
            assert isinstance(run, FitRun)
            runs.append(
                (len(run.optimizers), len(run.wrapped_optimizers), run.limits.max_epochs, run.accumulation.schedule)
            )

    trainer = quiet_trainer(max_epochs=3, accumulate_grad_batches=2, callbacks=[Keeps()])
    trainer.fit(TinyModule(), TinyData(2))
    assert runs == [(1, 1, 3, {0: 2})]


def test_counters_of_a_checkpoint_hold_while_it_is_evaluated_and_no_longer(tmp_path):
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(TinyModule(), TinyData(3))
    trainer.save_checkpoint(tmp_path / "six.ckpt")
    looks = Recorder(["on_validation_start"], look=lambda trainer, module: trainer.global_step)
    other = quiet_trainer(max_epochs=1, callbacks=[looks])
    other.fit(TinyModule(), TinyData(2))
    other.validate(TinyModule(), TinyData(1), ckpt_path=tmp_path / "six.ckpt")
    assert looks.seen("on_validation_start") == [6]
    assert other.global_step == 2


def test_a_fit_that_failed_behind_its_checkpoint_leaves_nothing_mixed_to_save(tmp_path):
    class Fails(TinyModule):
        def configure_optimizers(self):
            raise RuntimeError("no optimizer")

    other, trainer = quiet_trainer(), quiet_trainer()
    other.fit(TinyModule(), TinyData(3))
    other.save_checkpoint(tmp_path / "three.ckpt")
    trainer.fit(TinyModule(), TinyData(5))
    with pytest.raises(RuntimeError, match="no optimizer"):
        trainer.fit(Fails(), TinyData(5), ckpt_path=tmp_path / "three.ckpt")
    saved = trainer.dump_checkpoint()
    assert saved["global_step"] == 3
    assert "optimizer_states" not in saved
