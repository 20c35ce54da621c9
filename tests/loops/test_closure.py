from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torchmetrics

from trainkit.errors import ConfigError, ModuleError
from trainkit.loops.closure import takes_closure
from trainkit.precision.base import Precision
from trainkit.strategies.single import SingleDevice
from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_weights, quiet_trainer


class OwnStep(TinyModule):
    """Calls ``optimizer.step(closure)`` in its ``optimizer_step`` and keeps what that returns."""

    optimizer_class = torch.optim.SGD

    def __init__(self):
        super().__init__()
        self.returned, self.losses = [], []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.detach())
        return loss

    def configure_optimizers(self):
        return self.optimizer_class(self.parameters(), lr=0.1)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        self.returned.append(optimizer.step(closure=optimizer_closure))


class Skips(OwnStep):
    """Returns None for the batches of ``skipped``."""

    skipped = (1,)

    def training_step(self, batch, batch_idx):
        return None if batch_idx in self.skipped else super().training_step(batch, batch_idx)


class Lbfgs(TinyModule):
    def __init__(self, max_iter=3):
        super().__init__()
        self.max_iter, self.evaluations = max_iter, []

    def training_step(self, batch, batch_idx):
        self.evaluations.append(batch_idx)
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=self.max_iter)


class SkipsEveryThird(Precision):
    """Makes no update of every third one, as a scaler does whose gradients have overflowed."""

    name = "skips-every-third"

    def __init__(self):
        self.calls = 0

    def update(self, optimizer, closure=None):
        self.calls += 1
        if self.calls % 3:
            return super().update(optimizer, closure)
        if closure is not None:
            closure()
        return False


def watching():
    return Recorder(["on_before_optimizer_step", "around_optimizer_step", "on_after_optimizer_step"])


def fit(module, num_batches=4, **arguments):
    trainer = quiet_trainer(**arguments)
    trainer.fit(module, TinyData(num_batches))
    return trainer


def test_who_takes_a_closure():
    tiny, lbfgs, own = TinyModule(), Lbfgs(), OwnStep()
    assert not takes_closure(tiny, tiny.configure_optimizers())
    assert takes_closure(lbfgs, lbfgs.configure_optimizers())
    assert takes_closure(own, own.configure_optimizers())


# What step returns


@pytest.mark.parametrize("arguments", [{}, {"callbacks": "watching"}, {"precision": SkipsEveryThird()}])
def test_step_returns_the_loss_whoever_looks_on(arguments):
    module = OwnStep()
    fit(module, **{name: [watching()] if value == "watching" else value for name, value in arguments.items()})
    assert len(module.losses) == 4
    assert [value.item() for value in module.returned] == [value.item() for value in module.losses]


@pytest.mark.parametrize("callbacks", [[], [watching()]])
def test_step_returns_the_first_of_several_losses(callbacks):
    class Module(OwnStep):
        optimizer_class = torch.optim.LBFGS

    module = Module()
    fit(module, 1, callbacks=callbacks)
    assert len(module.losses) > 1
    assert [value.item() for value in module.returned] == [module.losses[0].item()]


@pytest.mark.parametrize("callbacks", [[], [watching()]])
def test_step_without_a_closure_returns_nothing(callbacks):
    class Module(OwnStep):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
            optimizer_closure()
            self.returned.append(optimizer.step())

    module = Module()
    trainer = fit(module, 2, callbacks=callbacks)
    assert module.returned == [None, None]
    assert trainer.global_step == 2


# What is counted


@pytest.mark.parametrize("kind", [OwnStep, Lbfgs])
def test_what_looks_on_changes_nothing(kind):
    alone, watched = kind(), kind()
    recorder = watching()
    fit(alone)
    fit(watched, callbacks=[recorder])
    assert_same_weights(alone, watched)
    assert recorder.count("around_optimizer_step") == recorder.count("on_after_optimizer_step") == 4


def test_an_update_that_the_precision_skips_is_not_counted():
    recorder, module = watching(), OwnStep()
    trainer = fit(module, 6, precision=SkipsEveryThird(), callbacks=[recorder])
    assert len(module.losses) == 6
    assert trainer.global_step == 4
    assert recorder.count("on_after_optimizer_step") == 4
    assert fit(OwnStep(), 6, precision=SkipsEveryThird()).global_step == 4


def test_one_update_is_one_however_often_the_loss_is_evaluated():
    module = Lbfgs(max_iter=3)
    recorder = watching()
    trainer = fit(module, 2, callbacks=[recorder])
    assert module.evaluations == [0, 0, 0, 1, 1, 1]
    assert recorder.count("on_before_optimizer_step") == 6, "gradients of each evaluation are prepared"
    assert trainer.global_step == recorder.count("on_after_optimizer_step") == 2


def test_each_evaluation_starts_from_cleared_gradients():
    class Module(Lbfgs):
        def __init__(self):
            super().__init__(max_iter=2)
            self.gradients, self.expected = [], []

        def training_step(self, batch, batch_idx):
            loss = self.loss(batch)
            self.expected.append(torch.autograd.grad(self.loss(batch), self.layer.weight)[0])
            return loss

        def on_before_optimizer_step(self):
            self.gradients.append(self.layer.weight.grad.clone())

    module = Module()
    fit(module, 1)
    assert len(module.gradients) == 2
    assert torch.equal(torch.stack(module.gradients), torch.stack(module.expected))


# Batches that are skipped, and groups


def test_a_skipped_batch_leaves_the_optimizer_alone():
    recorder, module = watching(), Skips()
    trainer = fit(module, 3, callbacks=[recorder])
    assert trainer.global_step == len(module.returned) == 2, "optimizer_step was left before it could go on"
    assert recorder.count("on_before_optimizer_step") == 2


def test_outputs_of_a_skipped_batch_are_empty():
    recorder = Recorder(["on_train_batch_end"])
    fit(Skips(), 2, callbacks=[recorder])
    outputs = [call["outputs"] for call in recorder.arguments("on_train_batch_end")]
    assert list(outputs[0]) == ["loss"]
    assert outputs[1] == {}


@pytest.mark.parametrize(
    ("skipped", "updates"),
    [((), 2), ((0,), 2), ((1,), 2), ((0, 1), 1), ((2, 3), 1), ((0, 1, 2, 3), 0)],
)
@pytest.mark.filterwarnings("ignore:epoch . has made no update")
def test_a_group_is_as_with_the_usual_step_whatever_is_skipped_of_it(skipped, updates):
    class Usual(TinyModule):
        def training_step(self, batch, batch_idx):
            return None if batch_idx in skipped else super().training_step(batch, batch_idx)

    module, usual = Skips(), Usual()
    module.skipped = skipped
    trainer = fit(module, accumulate_grad_batches=2)
    assert trainer.global_step == updates
    assert fit(usual, accumulate_grad_batches=2).global_step == updates
    assert_same_weights(module, usual)


class NotesExchanges(SingleDevice):
    """Writes down for which batches gradients are exchanged in backward, and for which afterwards."""

    def __init__(self):
        super().__init__("cpu")
        self.events = []

    def gradient_sync(self, *, enabled):
        self.events.append(f"backward {enabled}")
        return nullcontext()

    def sync_gradients(self, module):
        self.events.append("afterwards")


@pytest.mark.parametrize(
    ("skipped", "events"),
    [
        ((), ["backward False", "backward True"]),
        ((0,), ["backward False", "backward True"]),
        ((1,), ["backward False", "backward True", "afterwards"]),
        ((0, 1), ["backward False", "backward True"]),
    ],
)
@pytest.mark.filterwarnings("ignore:epoch . has made no update")
def test_ranks_exchange_the_gradients_of_a_group_once(skipped, events):
    module, strategy = Skips(), NotesExchanges()
    module.skipped = skipped
    fit(module, 2, accumulate_grad_batches=2, strategy=strategy)
    assert strategy.events == events


def test_the_loss_is_evaluated_under_autocast_and_backward_is_not():
    class Module(OwnStep):
        def training_step(self, batch, batch_idx):
            self.inside = torch.is_autocast_enabled("cpu")
            return super().training_step(batch, batch_idx)

        def on_before_backward(self):
            self.in_backward = torch.is_autocast_enabled("cpu")

    module = Module()
    fit(module, 1, precision="bf16-mixed")
    assert module.inside
    assert not module.in_backward


def test_several_evaluations_of_a_group_are_refused():
    with pytest.raises(ConfigError, match="LBFGS evaluates the loss several times[\\s\\S]*accumulate_grad_batches=2"):
        fit(Lbfgs(), accumulate_grad_batches=2)


def test_an_optimizer_step_that_never_calls_the_closure_is_an_error():
    class Forgets(TinyModule):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
            pass

    with pytest.raises(ModuleError, match="Forgets.optimizer_step did not call the closure[\\s\\S]*batch 0"):
        fit(Forgets())


def test_optimizer_step_is_told_where_the_run_is():
    told = []

    class Module(TinyModule):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
            told.append((epoch, batch_idx, optimizer is self.optimizers()))
            optimizer.step(optimizer_closure)

    fit(Module(), 2, max_epochs=2)
    assert told == [(0, 0, True), (0, 1, True), (1, 0, True), (1, 1, True)]


# Whatever an optimizer returns itself


@pytest.mark.parametrize("callbacks", [[], [watching()]])
def test_step_returns_the_loss_of_an_optimizer_that_returns_none(callbacks):
    class ReturnsNothing(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)

    class Module(OwnStep):
        optimizer_class = ReturnsNothing

    module = Module()
    fit(module, 2, callbacks=callbacks)
    assert [getattr(value, "item", lambda: None)() for value in module.returned] == [
        loss.item() for loss in module.losses
    ]


class Logs(TinyModule):
    """Logs a count of batches and the loss, also with objects and in a hook of the step, and evaluates thrice."""

    def __init__(self):
        super().__init__()
        self.mean, self.count, self.first = torchmetrics.MeanMetric(), torchmetrics.SumMetric(), []

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("batches", 1.0, reduce_fx="sum", on_step=False, on_epoch=True)
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.count(1.0)
        self.log("object", self.count, on_step=True, on_epoch=True)
        self.mean.update(loss.detach())
        if len(self.first) == batch_idx:
            self.first.append(loss.item())
        return loss

    def on_before_optimizer_step(self, optimizer):
        self.log("in a hook", 1.0, reduce_fx="sum", on_step=False, on_epoch=True)

    def on_train_epoch_end(self):
        self.log("at the end", self.mean)


class LogsLbfgs(Logs):
    configure_optimizers = Lbfgs.configure_optimizers
    max_iter = 3


class LogsSam(Logs):
    """Moves the weights within ``optimizer_step``, and evaluates there."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        optimizer_closure()
        with torch.no_grad():
            self.layer.weight += 1
        optimizer_closure()
        with torch.no_grad():
            self.layer.weight -= 1
        optimizer.step(optimizer_closure)


class Sam(torch.optim.SGD):
    """One of another package: moves the weights by the gradients that are there, and evaluates then."""

    def step(self, closure):
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.add_(parameter.grad)
        closure()
        super().step()


class LogsOwnSam(Logs):
    def configure_optimizers(self):
        return Sam(self.parameters(), lr=0.1)


@pytest.mark.parametrize("kind", [LogsLbfgs, LogsSam, LogsOwnSam])
def test_a_batch_counts_once_in_what_is_logged(kind):
    module, trainer = kind(), quiet_trainer(max_epochs=1, limit_train_batches=4)
    trainer.fit(module, TinyData())
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["batches"] == logged["in a hook"] == logged["object_epoch"] == len(module.first) == 4
    assert logged["object_step"] == 1 and logged["loss_step"] == pytest.approx(module.first[-1])
    mean = pytest.approx(sum(module.first) / 4, rel=1e-6)
    assert logged["loss_epoch"] == mean and logged["at the end"] == mean
