"""Modules that step their optimizers themselves."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.optim.lr_scheduler import StepLR

from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_weights, quiet_trainer


class Manual(TinyModule):
    """Two optimizers, one for the weight and one for the bias; steps the ones that ``which(batch_idx)`` names."""

    def __init__(self, which=lambda batch_idx: (0, 1)):
        super().__init__()
        self.automatic_optimization = False
        self.which = which

    def training_step(self, batch, batch_idx):
        for index in self.which(batch_idx):
            optimizer = self.optimizers()[index]
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()

    def configure_optimizers(self):
        weight = torch.optim.SGD([self.layer.weight], lr=0.1)
        bias = torch.optim.SGD([self.layer.bias], lr=0.05)
        return [weight, bias], [StepLR(weight, step_size=1, gamma=0.5)]


def test_two_optimizers_stepped_by_hand_train_as_in_a_loop_by_hand():
    module, data = Manual(), TinyData(3)
    expected = copy.deepcopy(module)
    optimizers = [torch.optim.SGD([expected.layer.weight], lr=0.1), torch.optim.SGD([expected.layer.bias], lr=0.05)]
    for batch in data:
        for optimizer in optimizers:
            optimizer.zero_grad()
            expected.loss(batch).backward()
            optimizer.step()
    quiet_trainer().fit(module, data)
    assert_same_weights(module, expected)


def test_global_step_counts_batches_in_which_something_stepped():
    recorder = Recorder(only=["on_train_batch_end"], look=lambda trainer, module: trainer.global_step)
    steps = {0: (0, 1), 1: (), 2: (1,), 3: (0,)}
    quiet_trainer(callbacks=[recorder]).fit(Manual(lambda batch_idx: steps[batch_idx]), TinyData(4))
    assert recorder.seen("on_train_batch_end") == [1, 1, 2, 3]


def test_max_steps_counts_the_same_way():
    trainer = quiet_trainer(max_steps=3)
    trainer.fit(Manual(), TinyData(6))
    assert trainer.global_step == 3
    assert trainer.progress.total_batches == 3


def test_schedulers_are_left_to_the_user():
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(Manual(), TinyData(2), TinyData(1))
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.1

    class Steps(Manual):
        def on_train_epoch_end(self):
            self.lr_schedulers().step()

    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(Steps(), TinyData(2))
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.025


def test_one_optimizer_is_given_alone():
    class One(Manual):
        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module, expected, data = One(), TinyModule(), TinyData(3)
    quiet_trainer().fit(module, data)
    quiet_trainer().fit(expected, data)
    assert_same_weights(module, expected)


def test_optimizer_hooks_fire_around_each_step():
    recorder = Recorder(
        only=["on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_after_optimizer_step"]
    )
    quiet_trainer(callbacks=[recorder]).fit(Manual(), TinyData(1))
    assert (
        recorder.names
        == [
            "on_before_backward",
            "on_after_backward",
            "on_before_optimizer_step",
            "on_after_optimizer_step",
        ]
        * 2
    )


def test_toggled_optimizer_gives_gradients_to_its_own_parameters_only():
    seen = []

    class Toggles(Manual):
        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()[1]
            self.toggle_optimizer(optimizer)
            self.manual_backward(self.loss(batch))
            seen.append((self.layer.weight.grad is None, self.layer.bias.grad is None))
            optimizer.step()
            self.untoggle_optimizer(optimizer)
            seen.append((self.layer.weight.requires_grad, self.layer.bias.requires_grad))

    quiet_trainer().fit(Toggles(), TinyData(1))
    assert seen == [(True, False), (True, True)]


def test_what_a_manual_step_returns_reaches_the_outputs():
    class Returns(Manual):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            return {"loss": torch.tensor(7.0), "note": batch_idx}

    recorder = Recorder(only=["on_train_batch_end"])
    quiet_trainer(callbacks=[recorder]).fit(Returns(), TinyData(1))
    outputs = recorder.arguments("on_train_batch_end")[0]["outputs"]
    assert outputs["loss"] == 7.0
    assert outputs["note"] == 0


def test_two_optimizers_with_automatic_optimization_are_an_error_that_names_the_way_out():
    class Automatic(TinyModule):
        def configure_optimizers(self):
            return [torch.optim.SGD([self.layer.weight], lr=0.1), torch.optim.SGD([self.layer.bias], lr=0.1)]

    with pytest.raises(ValueError, match=r"(?s)2.*automatic_optimization = False"):
        quiet_trainer().fit(Automatic(), TinyData(2))


@pytest.mark.filterwarnings("ignore:epoch . has made no update")
def test_the_last_batch_is_known_while_it_is_worked_on():
    seen = []

    class Looks(Manual):
        def on_train_batch_start(self, batch, batch_idx):
            seen.append(("start", batch_idx, self.trainer.is_last_batch))

        def training_step(self, batch, batch_idx):
            seen.append(("step", batch_idx, self.trainer.is_last_batch))

    quiet_trainer(max_epochs=2).fit(Looks(), TinyData(2))
    of_an_epoch = [("start", 0, False), ("step", 0, False), ("start", 1, True), ("step", 1, True)]
    assert seen == of_an_epoch * 2


def test_a_step_with_a_closure_returns_its_loss():
    class Closure(Manual):
        def training_step(self, batch, batch_idx):
            def closure():
                loss = self.loss(batch)
                self.manual_backward(loss)
                return loss

            self.returned = self.optimizers()[0].step(closure), self.optimizers()[1].step()

    module, data = Closure(), TinyData(1)
    expected = module.loss(data[0]).item()
    quiet_trainer().fit(module, data)
    assert (module.returned[0].item(), module.returned[1]) == (expected, None)
