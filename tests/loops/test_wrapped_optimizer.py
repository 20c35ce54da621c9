from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from trainkit.loops.wrapped_optimizer import WrappedOptimizer
from trainkit.strategies.single import SingleDevice
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def wrapped(step=None):
    module = TinyModule()
    optimizer = module.configure_optimizers()
    return WrappedOptimizer(optimizer, module, step or optimizer.step), optimizer


def test_it_passes_for_its_optimizer():
    wrapper, optimizer = wrapped()
    assert isinstance(wrapper, torch.optim.SGD)
    assert not isinstance(wrapper, torch.optim.Adam)
    assert wrapper.__class__ is torch.optim.SGD
    assert wrapper.optimizer is optimizer
    assert repr(wrapper) == f"WrappedOptimizer({optimizer!r})"


def test_attributes_are_those_of_the_optimizer_in_both_directions():
    wrapper, optimizer = wrapped()
    wrapper.param_groups[0]["lr"] = 0.7
    wrapper.note = "set on the wrapper"
    optimizer.other = "set on the optimizer"
    assert optimizer.param_groups[0]["lr"] == 0.7
    assert optimizer.note == wrapper.note == "set on the wrapper"
    assert wrapper.other == "set on the optimizer"
    assert wrapper.state is optimizer.state
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = wrapper.nothing_like_it


def test_its_step_is_the_one_it_was_given():
    wrapper, optimizer = wrapped(step=lambda closure=None: ("stepped", closure))
    before = optimizer.param_groups[0]["params"][0].clone()
    assert wrapper.step() == ("stepped", None)
    assert wrapper.step("closure") == ("stepped", "closure")
    assert torch.equal(optimizer.param_groups[0]["params"][0], before), "the optimizer's own step was called"


class TwoOptimizers(TinyModule):
    """Weight and bias have an optimizer each, and share a third parameter; a fourth one is frozen."""

    automatic_optimization = False

    def __init__(self, inside):
        super().__init__()
        self.shared = torch.nn.Parameter(torch.zeros(()))
        self.frozen = torch.nn.Parameter(torch.zeros(()), requires_grad=False)
        self.inside = inside
        self.after = None

    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        try:
            self.inside(self, first, second)
        finally:
            self.after = self.trained()

    def trained(self):
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def configure_optimizers(self):
        return [
            torch.optim.SGD([self.layer.weight, self.shared], lr=0.1),
            torch.optim.SGD([self.layer.bias, self.shared, self.frozen], lr=0.1),
        ]


ALL = {"layer.weight", "layer.bias", "shared"}


@pytest.mark.filterwarnings("ignore:epoch . has made no update")
def test_within_toggle_model_only_its_own_parameters_require_grad():
    seen = []

    def inside(module, first, second):
        with first.toggle_model():
            seen.append(module.trained())
        with second.toggle_model():
            seen.append(module.trained())

    module = TwoOptimizers(inside)
    quiet_trainer().fit(module, TinyData(1))
    assert seen == [ALL - {"layer.bias"}, ALL - {"layer.weight"}]
    assert module.after == ALL, "not all are trained again, or a frozen one is"


def test_toggle_model_is_undone_after_an_exception():
    def inside(module, first, second):
        with first.toggle_model():
            raise ValueError("within")

    module = TwoOptimizers(inside)
    with pytest.raises(ValueError, match="within"):
        quiet_trainer().fit(module, TinyData(1))
    assert module.after == ALL


@pytest.mark.filterwarnings("ignore:epoch . has made no update")
def test_gradients_get_only_where_toggle_model_lets_them():
    def inside(module, first, second):
        with first.toggle_model():
            module.manual_backward(module.loss(TinyData(1)[0]) + module.shared)

    module = TwoOptimizers(inside)
    quiet_trainer().fit(module, TinyData(1))
    assert {name for name, parameter in module.named_parameters() if parameter.grad is not None} == {
        "layer.weight",
        "shared",
    }


@pytest.mark.parametrize("sync_grad", [True, False])
@pytest.mark.filterwarnings("ignore:epoch . has made no update")
def test_ranks_exchange_gradients_only_if_that_is_asked_for(sync_grad):
    class Exchange(SingleDevice):
        calls = ()

        @contextmanager
        def gradient_sync(self, *, enabled):
            self.calls = (*self.calls, enabled)
            yield
            self.calls = (*self.calls, "end")

    def inside(module, first, second):
        with first.toggle_model(sync_grad=sync_grad):
            pass

    strategy = Exchange("cpu")
    quiet_trainer(strategy=strategy).fit(TwoOptimizers(inside), TinyData(1))
    assert strategy.calls == (sync_grad, "end")
