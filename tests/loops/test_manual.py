from __future__ import annotations

import pytest
import torch

from trainkit.errors import ModuleError
from trainkit.precision.base import Precision
from trainkit.strategies.single import SingleDevice
from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_weights, quiet_trainer


class ByHand(TinyModule):
    automatic_optimization = False
    output = None

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        self.returned = optimizer.step()
        return self.output


class WithClosure(TinyModule):
    automatic_optimization = False

    def __init__(self, max_iter=3):
        super().__init__()
        self.max_iter, self.losses, self.returned = max_iter, [], []

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()

        def closure():
            optimizer.zero_grad()
            loss = self.loss(batch)
            self.manual_backward(loss)
            self.losses.append(loss.item())
            return loss

        self.returned.append(optimizer.step(closure))

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=self.max_iter)


class NoOptimizer(TinyModule):
    output = None

    def training_step(self, batch, batch_idx):
        return self.output

    def configure_optimizers(self):
        return None


def outputs_of(module):
    recorder = Recorder(["on_train_batch_end"])
    quiet_trainer(callbacks=[recorder]).fit(module, TinyData(1))
    (call,) = recorder.arguments("on_train_batch_end")
    return call["outputs"]


@pytest.mark.filterwarnings("ignore:configure_optimizers\\(\\) returned None:UserWarning")
@pytest.mark.parametrize("kind", [ByHand, NoOptimizer])
def test_what_the_step_returns_is_handed_on_detached(kind):
    module = kind()
    assert outputs_of(module) == {}
    module.output = torch.ones((), requires_grad=True) * 2
    assert outputs_of(module) == {"loss": torch.tensor(2.0)}
    assert not outputs_of(module)["loss"].requires_grad
    module.output = {"a": torch.ones((), requires_grad=True) * 2, "b": "text"}
    assert not outputs_of(module)["a"].requires_grad
    assert outputs_of(module)["b"] == "text"


@pytest.mark.filterwarnings("ignore:configure_optimizers\\(\\) returned None:UserWarning")
@pytest.mark.parametrize(("kind", "why"), [(ByHand, "With manual optimization"), (NoOptimizer, "Without an optimizer")])
def test_something_else_is_an_error_that_says_what_is_allowed(kind, why):
    module = kind()
    module.output = [1.0]
    with pytest.raises(ModuleError, match=f"returned list. {why} allowed are a tensor, a dict, or None"):
        outputs_of(module)


@pytest.mark.filterwarnings("ignore:configure_optimizers\\(\\) returned None:UserWarning")
def test_without_an_optimizer_nothing_is_trained_and_each_batch_is_a_step():
    module = NoOptimizer()
    trainer = quiet_trainer()
    trainer.fit(module, TinyData(3))
    assert_same_weights(module, TinyModule())
    assert (trainer.global_step, trainer.progress.total_batches) == (3, 3)


def test_step_returns_nothing_without_a_closure_and_the_first_loss_with_one():
    module = ByHand()
    quiet_trainer().fit(module, TinyData(1))
    assert module.returned is None
    module = WithClosure(max_iter=3)
    quiet_trainer().fit(module, TinyData(1))
    assert len(module.losses) == 3
    assert [loss.item() for loss in module.returned] == module.losses[:1]


def test_gradients_are_exchanged_unscaled_and_shown_to_plugins_ahead_of_the_update():
    events = []

    class Exchanges(SingleDevice):
        def sync_gradients(self, module):
            events.append("exchanged")

    class Scales(Precision):
        name = "scales"

        def unscale(self, optimizer):
            events.append("unscaled")

        def update(self, optimizer, closure=None):
            updated = super().update(optimizer, closure)
            events.append("updated")
            return updated

    class Plugin:
        def on_before_optimizer_step(self):
            events.append("before")

        def on_clip_gradients(self):
            events.append("clipped")

        def on_after_optimizer_step(self):
            events.append("after")

    def run(module):
        events.clear()
        quiet_trainer(strategy=Exchanges("cpu"), precision=Scales(), callbacks=[Plugin()]).fit(module, TinyData(1))
        return list(events)

    prepared = ["exchanged", "unscaled", "before", "clipped"]
    assert run(ByHand()) == [*prepared, "updated", "after"]
    assert run(WithClosure(max_iter=2)) == [*prepared, *prepared, "updated", "after"]


@pytest.mark.filterwarnings("ignore:epoch . has made no update")
def test_an_update_that_the_precision_skips_is_not_counted():
    class SkipsAll(Precision):
        name = "skips-all"

        def update(self, optimizer, closure=None):
            return False

    recorder = Recorder(["on_after_optimizer_step"])
    trainer = quiet_trainer(precision=SkipsAll(), callbacks=[recorder])
    trainer.fit(ByHand(), TinyData(2))
    assert trainer.global_step == recorder.count("on_after_optimizer_step") == 0


def test_each_batch_in_which_something_stepped_counts_one_update():
    class Twice(ByHand):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            self.optimizers().step()

    trainer = quiet_trainer()
    trainer.fit(Twice(), TinyData(3))
    assert trainer.global_step == 3


@pytest.mark.filterwarnings("ignore:configure_optimizers\\(\\) returned None:UserWarning")
@pytest.mark.parametrize("kind", [ByHand, NoOptimizer])
def test_the_step_runs_under_autocast(kind):
    class Module(kind):
        def training_step(self, batch, batch_idx):
            self.inside = torch.is_autocast_enabled("cpu")
            return super().training_step(batch, batch_idx)

    module = Module()
    quiet_trainer(precision="bf16-mixed").fit(module, TinyData(1))
    assert module.inside


# Steps that the run does not see


class TwoSteps(torch.optim.SGD):
    """Makes its update by a method of its own."""

    @torch.no_grad()
    def second_step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(group["lr"] * parameter.grad)


class Elsewhere(ByHand):
    """Steps past ``self.optimizers().step()``, with every second batch."""

    def __init__(self, step):
        super().__init__()
        self.step, self.batches = step, 0

    def training_step(self, batch, batch_idx):
        assert self.batches < 50, "never ends"
        self.batches += 1
        self.manual_backward(self.loss(batch))
        if self.batches % 2 == 0:
            self.step(self)
            self.zero_grad()

    def configure_optimizers(self):
        return TwoSteps(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    "step",
    [
        lambda module: module.trainer.optimizers[0].step(),
        lambda module: module.optimizers(use_wrapped=False).step(),
        lambda module: module.optimizers().second_step(),
    ],
)
def test_an_update_that_no_wrapped_step_has_made_counts(step):
    trainer = quiet_trainer(max_epochs=-1, max_steps=10)
    module = Elsewhere(step)
    trainer.fit(module, TinyData(4))
    assert (trainer.global_step, module.batches) == (10, 20)


def test_where_steps_are_seen_nothing_else_counts():
    class Clamps(Elsewhere):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            with torch.no_grad():
                self.layer.weight.clamp_(-1, 1)

    module = Clamps(lambda module: module.optimizers().step())
    module.batches = 1  # so that the first batch makes an update
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(module, TinyData(6))
    assert trainer.global_step == 3


def test_an_own_optimizer_step_may_update_in_its_own_way():
    class Own(TinyModule):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
            optimizer_closure()
            optimizer.second_step()

        def configure_optimizers(self):
            return TwoSteps(self.parameters(), lr=0.1)

    trainer = quiet_trainer(max_epochs=2, max_steps=6)
    trainer.fit(Own(), TinyData(4))
    assert trainer.global_step == 6


def test_an_update_with_scaled_gradients_is_told():
    module = Elsewhere(lambda module: module.trainer.optimizers[0].step())
    with pytest.warns(UserWarning, match="'16-mixed' scales the loss"):
        quiet_trainer(max_epochs=1, precision="16-mixed").fit(module, TinyData(2))
