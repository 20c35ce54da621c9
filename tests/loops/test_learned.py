"""An epoch whose updates come to nothing, or that nobody counts, is told; one that trains anything is not."""

from __future__ import annotations

import warnings

import pytest
import torch

from trainkit.errors import ModuleError
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class TrainsAnother(TinyModule):
    """Gives its optimizer a layer that the loss does not depend on."""

    def __init__(self):
        super().__init__()
        self.other = torch.nn.Linear(2, 1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.other.parameters(), lr=0.1)


class StepsAlone(TinyModule):
    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        self.optimizers().step()


class PastAutograd(TinyModule):
    """Changes its weights as code of old did."""

    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        for parameter in self.parameters():
            parameter.data.add_(1.0)


class Closure(TrainsAnother):
    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        optimizer.step(optimizer_closure)


WITHOUT_GRADIENT = [
    (TrainsAnother, "configure_optimizers"),
    (Closure, "configure_optimizers"),
    (StepsAlone, "backward"),
]


@pytest.mark.parametrize(("module", "what"), WITHOUT_GRADIENT)
@pytest.mark.parametrize("arguments", [{"max_epochs": 3}, {"max_steps": 2}])
def test_updates_without_a_gradient_are_told_once(module, what, arguments):
    with pytest.warns(UserWarning, match=f"has changed no weight.*SGD has a gradient.*{what}") as told:
        quiet_trainer(**arguments).fit(module(), TinyData())
    assert len([each for each in told if "no weight" in str(each.message)]) == 1


@pytest.mark.parametrize(("module", "what"), WITHOUT_GRADIENT)
def test_updates_without_a_gradient_are_an_error_of_a_fast_dev_run(module, what):
    with pytest.raises(ModuleError, match=f"has changed no weight in 1 batches.*{what}"):
        quiet_trainer(fast_dev_run=True).fit(module(), TinyData())


def test_weights_that_change_unseen_are_no_epoch_without_an_update():
    text = r"has changed weights .* p\.data\.add_.*max_steps.*p\.add_"
    with pytest.warns(UserWarning, match=text) as told:
        quiet_trainer(max_epochs=2).fit(PastAutograd(), TinyData())
    assert not [each for each in told if "no update" in str(each.message)]
    with pytest.raises(ModuleError, match=text):
        quiet_trainer(fast_dev_run=True).fit(PastAutograd(), TinyData())


class Frozen(TinyModule):
    """A schedule that begins with a rate of 0."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class ClearsAtOnce(TinyModule):
    """Has no gradients left when the epoch is over."""

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.zero_grad()


class ClearsByHand(TinyModule):
    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        self.manual_backward(self.loss(batch))
        self.optimizers().step()
        self.optimizers().zero_grad()


class WithoutGradients(TinyModule):
    """Searches its weights, and counts that."""

    automatic_optimization = False

    @torch.no_grad()
    def training_step(self, batch, batch_idx):
        self.layer.weight.add_(0.1)


@pytest.mark.parametrize("module", [TinyModule, Frozen, ClearsAtOnce, ClearsByHand, WithoutGradients])
@pytest.mark.parametrize("arguments", [{"max_epochs": 2}, {"fast_dev_run": True}, {"max_steps": 1}])
def test_what_learns_is_not_told_of(module, arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet_trainer(**arguments).fit(module(), TinyData())


def test_parameters_with_gradients_that_no_optimizer_has_are_named_once():
    class Forgetful(TinyModule):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(2, 2)
            self.unused = torch.nn.Linear(2, 2)

        def forward(self, x):
            return self.head(super().forward(x))

        def configure_optimizers(self):
            return torch.optim.SGD(self.layer.parameters(), lr=0.1)

    with pytest.warns(UserWarning, match="2 parameters of Forgetful have gradients, and no optimizer") as record:
        quiet_trainer(max_epochs=2).fit(Forgetful(), TinyData(2))
    assert sum("no optimizer trains them: head.weight, head.bias" in str(each.message) for each in record) == 1


def test_frozen_parameters_may_be_left_out(recwarn):
    class Frozen(TinyModule):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(2, 2).requires_grad_(False)

        def forward(self, x):
            return self.head(super().forward(x))

        def configure_optimizers(self):
            return torch.optim.SGD(self.layer.parameters(), lr=0.1)

    quiet_trainer(max_epochs=1).fit(Frozen(), TinyData(2))
    assert not recwarn.list
