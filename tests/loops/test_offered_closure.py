from __future__ import annotations

import pytest
import torch

from trainkit.errors import ConfigError
from trainkit.loops.offered_closure import _samples, evaluated_ahead, may_want_closure, needs_closure
from trainkit.testing import TinyData, TinyModule, assert_same_weights, quiet_trainer

LR, RHO = 0.1, 0.05


class Sam(torch.optim.Optimizer):
    """Moves the weights by the gradients that are there, and updates them with those of that other place."""

    past_autograd = False

    def __init__(self, parameters):
        super().__init__(parameters, {})

    def step(self, closure=None):
        assert closure is not None, "needs a closure"
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        before = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter in parameters:
                (parameter.data if self.past_autograd else parameter).add_(RHO * parameter.grad)
        closure()
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value - LR * parameter.grad)


class SamPastAutograd(Sam):
    past_autograd = True


class Polyak(torch.optim.Optimizer):
    """Needs the loss: its step is as large as that. Forgets that it is called without gradients switched on."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure):
        loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(LR * loss * parameter.grad)


class Deaf(torch.optim.Optimizer):
    """Takes a closure, and never calls it."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(LR * parameter.grad)


class Module(TinyModule):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.evaluations = kind, 0

    def training_step(self, batch, batch_idx):
        self.evaluations += 1
        return self.loss(batch)

    def configure_optimizers(self):
        return self.kind(self.parameters())


def by_hand(kind, data):
    module = Module(kind)
    optimizer = module.configure_optimizers()
    for batch in data:

        def closure(batch=batch):
            with torch.enable_grad():
                optimizer.zero_grad()
                loss = module.loss(batch)
                loss.backward()
                return loss.detach()

        if not needs_closure(optimizer):
            closure()
        optimizer.step(closure)
    return module


@pytest.mark.parametrize(
    ("kind", "evaluations"), [(Sam, 2), (SamPastAutograd, 2), (Polyak, 1), (Deaf, 1), (torch.optim.Adagrad, 1)]
)
def test_an_optimizer_gets_a_closure_and_no_batch_is_computed_oftener_than_it_needs(kind, evaluations):
    data = TinyData(4)
    module = Module(kind)
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(module, data)
    assert trainer.global_step == 4
    assert module.evaluations == 4 * evaluations
    assert_same_weights(module, by_hand(kind, data))


def test_a_group_of_batches_serves_those_that_ask_for_the_loss_only():
    trainer = quiet_trainer(max_epochs=1, accumulate_grad_batches=2)
    trainer.fit(Module(Polyak), TinyData(4))
    assert trainer.global_step == 2
    with pytest.raises(ConfigError, match="Sam evaluates the loss several times per update"):
        quiet_trainer(max_epochs=1, accumulate_grad_batches=2).fit(Module(Sam), TinyData(4))


def test_the_loss_of_a_group_is_the_mean_of_its_batches():
    seen = []

    class Notes(Polyak):
        def step(self, closure):
            seen.append(closure().item())

    class SkipsTheLast(Module):
        def training_step(self, batch, batch_idx):
            return None if batch_idx == 3 else super().training_step(batch, batch_idx)

    data = TinyData(4)
    module = SkipsTheLast(Notes)
    losses = [module.loss(batch).item() for batch in data]
    quiet_trainer(max_epochs=1, accumulate_grad_batches=2).fit(module, data)
    assert seen == pytest.approx([sum(losses[:2]) / 2, losses[2]])


def test_what_needs_a_closure_cannot_be_split():
    with pytest.raises(ConfigError, match="Polyak evaluates the loss"):
        quiet_trainer(max_epochs=1, accumulate_grad_batches="auto").fit(Module(Polyak), TinyData(4))


def test_who_needs_a_closure_and_who_may_want_one():
    expected = {Sam: (False, True), Polyak: (True, True), Deaf: (False, True)}
    expected |= {torch.optim.LBFGS: (True, False), torch.optim.AdamW: (False, False)}
    for kind, answers in expected.items():
        optimizer = kind(TinyModule().parameters())
        assert (needs_closure(optimizer), may_want_closure(optimizer)) == answers


CHANGES = [
    "nothing",
    "nothing, NaN",
    "weights",
    "data",
    "sign",
    "sign, data",
    "gradients",
    "no gradients",
    "complex",
    "half",
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_first_call_repeats_the_evaluation_if_anything_has_changed(change):
    dtype = {"complex": torch.complex64, "half": torch.bfloat16}.get(change, torch.float32)
    weight = torch.nn.Parameter(torch.ones(3, dtype=dtype))
    weight.grad = torch.full_like(weight, float("nan")) if change.endswith("NaN") else torch.ones(3, dtype=dtype)
    calls = []
    closure = evaluated_ahead(lambda: calls.append(torch.is_grad_enabled()), torch.optim.SGD([weight], lr=0.1))
    with torch.no_grad():
        if change == "data":
            weight.data.add_(0.01)
        elif change == "gradients":
            weight.grad.zero_()
        elif change == "no gradients":
            weight.grad = None
        elif change.startswith("sign"):  # which leaves all norms as they are
            (weight.data if change.endswith("data") else weight).neg_()
        elif not change.startswith("nothing"):
            weight[0] += 1j * 0.5 if change == "complex" else 0.01
        closure()
        assert len(calls) == (1 if change.startswith("nothing") else 2)
        closure()
    assert len(calls) == (2 if change.startswith("nothing") else 3)
    assert all(calls)


def test_of_large_weights_a_few_entries_are_looked_at():
    weights = [torch.nn.Parameter(torch.ones(1000, 1000)), torch.nn.Parameter(torch.ones(64, 3, 9, 9))]
    weights[1].data = weights[1].data.to(memory_format=torch.channels_last)
    for weight in weights:
        calls = []
        closure = evaluated_ahead(lambda calls=calls: calls.append(1), torch.optim.SGD(weights, lr=0.1))
        weight.data.add_(0.01)
        closure()
        assert len(calls) == 2
    assert sum(each.numel() for each in _samples(weights)) <= 2 * 256 * 4


def test_a_change_that_autograd_knows_of_is_seen_wherever_it_is():
    weight = torch.nn.Parameter(torch.ones(1000, 1000))
    calls = []
    closure = evaluated_ahead(lambda: calls.append(1), torch.optim.SGD([weight], lr=0.1))
    with torch.no_grad():
        weight[3, 5] += 1
    closure()
    assert len(calls) == 2
