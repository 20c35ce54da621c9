from __future__ import annotations

import pytest

from trainkit.errors import UnknownNameError
from trainkit.hooks.manager import HookManager
from trainkit.hooks.specs import HOOKS
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


def test_joins_every_hook_by_default_and_only_those_named_otherwise():
    manager = HookManager()
    name = manager.register(Recorder())
    only = manager.register(Recorder(only=["on_train_end"], name="only"))
    assert all(name in manager.order(hook) for hook in HOOKS)
    assert [hook for hook in HOOKS if only in manager.order(hook)] == ["on_train_end"]


def test_writes_down_arguments_and_what_look_saw():
    recorder = Recorder(only=["on_train_batch_end"], look=lambda trainer, module: trainer.global_step)
    data = TinyData(num_batches=2)
    quiet_trainer(callbacks=[recorder]).fit(TinyModule(), data)
    assert recorder.seen("on_train_batch_end") == [1, 2]
    first, second = recorder.arguments("on_train_batch_end")
    assert list(first) == ["outputs", "batch", "batch_idx"]
    assert first["batch"] is data[0]
    assert second["batch_idx"] == 1


def test_changes_nothing_about_the_run_it_records():
    recorded, plain, data = TinyModule(), TinyModule(), TinyData(num_batches=3)
    quiet_trainer(callbacks=[Recorder()]).fit(recorded, data, data)
    quiet_trainer().fit(plain, data, data)
    assert (recorded.layer.weight == plain.layer.weight).all()


def test_notes_stand_in_the_order_of_the_calls():
    recorder = Recorder(only=["on_train_start", "on_train_end"])

    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            recorder.note("step")
            return self.loss(batch)

    quiet_trainer(callbacks=[recorder]).fit(Module(), TinyData(num_batches=1))
    assert recorder.names == ["on_train_start", "step", "on_train_end"]
    assert recorder.count("step") == 1


def test_unknown_hook_is_an_error_with_the_nearest_spelling():
    with pytest.raises(UnknownNameError, match="did you mean 'on_train_start'"):
        Recorder(only=["on_train_strat"])
