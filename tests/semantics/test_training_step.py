"""What ``training_step`` and ``on_train_batch_start`` may return, and what follows from it."""

from __future__ import annotations

import copy

import pytest
import torch

from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_weights, quiet_trainer


class Skipping(TinyModule):
    """Skips every second batch."""

    def training_step(self, batch, batch_idx):
        return None if batch_idx % 2 else self.loss(batch)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_outputs_loss_is_detached(accumulate):
    recorder = Recorder(only=["on_train_batch_end"])
    trainer = quiet_trainer(callbacks=[recorder], accumulate_grad_batches=accumulate)
    trainer.fit(TinyModule(), TinyData(num_batches=accumulate))
    arguments = recorder.arguments("on_train_batch_end")[-1]
    assert not arguments["outputs"]["loss"].requires_grad
    assert arguments["outputs"]["loss"].grad_fn is None


def test_what_training_step_returns_beside_the_loss_reaches_the_outputs():
    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            return {"loss": self.loss(batch), "seen": batch_idx}

    recorder = Recorder(only=["on_train_batch_end"])
    quiet_trainer(callbacks=[recorder]).fit(Module(), TinyData(num_batches=2))
    assert [arguments["outputs"]["seen"] for arguments in recorder.arguments("on_train_batch_end")] == [0, 1]


def test_none_skips_backward_and_update_and_global_step_stays():
    recorder = Recorder(
        only=["on_train_batch_start", "on_before_backward", "on_after_optimizer_step", "on_train_batch_end"],
        look=lambda trainer, module: trainer.global_step,
    )
    module, data = Skipping(), TinyData(num_batches=4)
    expected = copy.deepcopy(module)
    optimizer = expected.configure_optimizers()
    for batch in data[::2]:
        optimizer.zero_grad()
        expected.loss(batch).backward()
        optimizer.step()

    trainer = quiet_trainer(callbacks=[recorder])
    trainer.fit(module, data)
    done = ["on_train_batch_start", "on_before_backward", "on_after_optimizer_step", "on_train_batch_end"]
    skipped = ["on_train_batch_start", "on_train_batch_end"]
    assert recorder.names == [*done, *skipped, *done, *skipped]
    assert recorder.seen("on_train_batch_end") == [1, 1, 2, 2]
    assert trainer.global_step == 2
    assert_same_weights(module, expected)


def test_outputs_of_a_skipped_batch_are_empty():
    recorder = Recorder(only=["on_train_batch_end"])
    quiet_trainer(callbacks=[recorder]).fit(Skipping(), TinyData(num_batches=2))
    assert recorder.arguments("on_train_batch_end")[1]["outputs"] == {}


class SkipRestOfFirstEpoch:
    """Returns -1 before batch 1 of epoch 0."""

    name = "skip"

    def on_train_batch_start(self, trainer, batch_idx):
        return -1 if trainer.current_epoch == 0 and batch_idx == 1 else None


def test_minus_one_ends_the_epoch_without_that_batch_and_without_validation():
    trained = []

    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            trained.append((self.current_epoch, batch_idx))
            return self.loss(batch)

    recorder = Recorder(only=["on_train_batch_end", "on_validation_start", "on_train_epoch_end"])
    trainer = quiet_trainer(max_epochs=2, callbacks=[SkipRestOfFirstEpoch(), recorder])
    trainer.fit(Module(), TinyData(num_batches=3), TinyData(num_batches=1))
    assert trained == [(0, 0), (1, 0), (1, 1), (1, 2)]
    assert recorder.names == [
        "on_train_batch_end",
        "on_train_epoch_end",
        "on_train_batch_end",
        "on_train_batch_end",
        "on_train_batch_end",
        "on_validation_start",
        "on_train_epoch_end",
    ]


def test_minus_one_from_the_module_itself_counts_too():
    class Module(TinyModule):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 2 else None

    trainer = quiet_trainer()
    trainer.fit(Module(), TinyData(num_batches=4))
    assert trainer.global_step == 2
    assert trainer.current_epoch == 1


@pytest.mark.parametrize("wrap", [lambda loss: loss, lambda loss: {"loss": loss}], ids=["tensor", "dict"])
def test_loss_may_be_a_tensor_or_a_dict_with_one(wrap):
    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            return wrap(self.loss(batch))

    module, data = Module(), TinyData(num_batches=2)
    before = module.layer.weight.detach().clone()
    quiet_trainer().fit(module, data)
    assert not torch.equal(module.layer.weight, before)


def test_training_step_may_leave_out_batch_idx():
    class Module(TinyModule):
        def training_step(self, batch):
            return self.loss(batch)

        def validation_step(self, batch):
            self.log("val/loss", self.loss(batch))

    trainer = quiet_trainer()
    trainer.fit(Module(), TinyData(num_batches=2), TinyData(num_batches=1))
    assert trainer.global_step == 2
    assert "val/loss" in trainer.callback_metrics
