from __future__ import annotations

import math
import re
import warnings
from functools import partial

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
)

from trainkit import Callback
from trainkit.callbacks import StochasticWeightAveraging
from trainkit.strategies import Strategy
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Scheduled(TinyModule):
    """Steps one scheduler, a function of the optimizer."""

    def __init__(self, make, interval="step", frequency=1):
        super().__init__()
        self.make, self.when = make, {"interval": interval, "frequency": frequency}

    def configure_optimizers(self):
        optimizer = SGD(self.parameters(), lr=0.01, momentum=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.make(optimizer), **self.when}}


class Stops(Callback):
    """Ends the fit after its first batch: only what is told when it begins is of interest."""

    def on_train_batch_end(self, trainer):
        trainer.should_stop = True


def told(module, data=None, ckpt_path=None, **arguments):
    """Return the warnings of a fit of 3 epochs with 20 batches each."""
    callbacks = [Stops(), *arguments.pop("callbacks", [])]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = quiet_trainer(**({"max_epochs": 3} | arguments), callbacks=callbacks)
        trainer.fit(module, data or TinyData(20), ckpt_path=ckpt_path)
    return [str(each.message) for each in caught]


def cosine(length):
    return lambda optimizer: CosineAnnealingLR(optimizer, length)


def linear(length):
    return lambda optimizer: LinearLR(optimizer, total_iters=length)


def one_cycle(length):
    return lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=length)


def polynomial(length):
    return lambda optimizer: PolynomialLR(optimizer, length)


def of_transformers(length):
    def factor(step, *, num_training_steps):
        return 1 - step / num_training_steps

    return lambda optimizer: LambdaLR(optimizer, partial(factor, num_training_steps=length))


def warm(length, first=6, then=cosine):
    """Return what makes a warmup and what comes after it, ``length`` steps in all."""

    def make(optimizer):
        parts = [LinearLR(optimizer, 0.1, total_iters=first), then(length - first)(optimizer)]
        return SequentialLR(optimizer, parts, [first])

    return make


def chained(make):
    return lambda optimizer: ChainedScheduler([StepLR(optimizer, 10**6), make(optimizer)], optimizer)


@pytest.mark.parametrize(
    ("make", "when", "arguments", "message"),
    [
        (one_cycle(59), {}, {}, "OneCycleLR .total_steps=59. is over before this fit, which steps it 60 times"),
        (one_cycle(29), {"frequency": 2}, {}, "which steps it 30 times.* Say total_steps=30"),
        (one_cycle(50), {}, {"max_epochs": -1, "max_steps": 51}, "Say total_steps=51, or end the fit by then"),
        (
            cosine(60),
            {"interval": "epoch"},
            {},
            "T_max=60. steps once per epoch, and is as long as the number of updates",
        ),
        (cosine(60), {"interval": "epoch"}, {"accumulate_grad_batches": 2}, "as long as the number of batches of this"),
        (polynomial(60), {"interval": "epoch"}, {}, "PolynomialLR .total_iters=60. steps once per epoch"),
        (of_transformers(60), {"interval": "epoch"}, {}, "LambdaLR .num_training_steps=60. steps once per epoch"),
        (cosine(58), {"interval": "epoch"}, {}, "T_max=58. steps once per epoch, and is as long as"),
        (
            cosine(60),
            {},
            {"accumulate_grad_batches": 4},
            "as long as the number of batches of this fit.* each of its 15 updates",
        ),
        (one_cycle(60), {}, {"accumulate_grad_batches": 4}, "Say total_steps=self.trainer.estimated_stepping_batch"),
        (of_transformers(60), {}, {"accumulate_grad_batches": {0: 1, 1: 4}}, "each of its 30 updates"),
        (cosine(3), {}, {}, "T_max=3. rises again after 3 steps, and this fit steps it 60 times, once per update"),
        (cosine(40), {}, {}, "T_max=40. rises again after 40 steps.* Say T_max=60"),
        (cosine(4), {"interval": "epoch"}, {"max_epochs": 7}, "rises again after 4 steps.* 7 times, once per epoch"),
        (cosine(25), {}, {}, "rises again after 25 steps, and this fit steps it 60 times"),
        (one_cycle(60), {"interval": "epoch"}, {}, "OneCycleLR .total_steps=60. steps once per epoch, and is as long"),
        (one_cycle(999), {"interval": "epoch"}, {}, "steps once per epoch, which steps it 3 times: it does not get"),
        (
            cosine(60),
            {"frequency": 10},
            {},
            "once per 10 updates, and is as long as .*Say T_max=6",
        ),
        (
            lambda optimizer: LinearLR(optimizer, total_iters=60),
            {"interval": "epoch"},
            {},
            "LinearLR .* once per epoch",
        ),
        # What is behind a warmup.
        (
            warm(60),
            {"interval": "epoch"},
            {},
            "CosineAnnealingLR .T_max=54., which comes after 6 steps of a SequentialLR, steps once per epoch, and is "
            "as long as the number of updates",
        ),
        (warm(60), {}, {"accumulate_grad_batches": 4}, "Say T_max=self.trainer.estimated_stepping_batches - 6"),
        (warm(40), {}, {}, "rises again after 40 steps, and this fit steps it 60 times, once per update. Say T_max=54"),
        (warm(26), {}, {}, "rises again after 26 steps"),
        (warm(16), {}, {}, "rises again after 16 steps"),
        (warm(50, then=one_cycle), {}, {}, "is over before this fit, which steps it 60 times.* Say total_steps=54"),
        (warm(60, then=lambda length: warm(length, 4)), {"interval": "epoch"}, {}, "T_max=50., which comes after 10"),
        (chained(cosine(40)), {}, {}, "CosineAnnealingLR .T_max=40. rises again"),
        (chained(warm(60)), {"interval": "epoch"}, {}, "T_max=54.* steps once per epoch"),
    ],
)
def test_a_schedule_that_does_not_fit_is_told(make, when, arguments, message):
    [warning] = told(Scheduled(make, **when), **arguments)
    assert re.search(message, warning)


@pytest.mark.parametrize(
    ("make", "when", "arguments"),
    [
        (one_cycle(60), {}, {}),
        (one_cycle(100), {}, {}),
        (one_cycle(15), {}, {"accumulate_grad_batches": 4}),
        (cosine(60), {}, {}),
        (cosine(59), {}, {}),
        (cosine(58), {}, {}),  # it rises for one update, by next to nothing
        (cosine(10), {}, {}),  # a wave
        (cosine(3), {"interval": "epoch"}, {}),
        (cosine(100), {"interval": "epoch"}, {}),
        (cosine(50), {"interval": "epoch"}, {}),
        (cosine(60), {"interval": "epoch"}, {"max_epochs": 60, "limit_train_batches": 1}),
        (one_cycle(3), {"interval": "epoch"}, {}),
        (one_cycle(4), {"interval": "epoch"}, {}),
        (warm(60), {}, {}),
        (warm(3, 1), {"interval": "epoch"}, {}),
        (warm(100), {}, {}),
        (warm(60, then=lambda length: lambda optimizer: StepLR(optimizer, length)), {"interval": "epoch"}, {}),
        (chained(cosine(60)), {}, {}),
        (polynomial(3), {}, {}),
        (polynomial(40), {}, {"max_steps": 45}),
        (of_transformers(60), {}, {}),
        (linear(3), {}, {}),
        (lambda optimizer: StepLR(optimizer, 60), {"interval": "epoch"}, {}),
        # What is only tried, or has no known end.
        (one_cycle(5), {}, {"fast_dev_run": 6}),
        (one_cycle(5), {}, {"max_epochs": -1}),
        (one_cycle(5), {}, {"callbacks": [StochasticWeightAveraging(0.1)]}),
    ],
)
def test_a_schedule_that_may_be_meant_is_left_alone(make, when, arguments):
    try:
        assert told(Scheduled(make, **when), **arguments) == []
    except ValueError as error:
        assert "fast_dev_run" in arguments, error  # it is tried to its end, where the schedule is over


@pytest.mark.parametrize("make", [one_cycle(60), cosine(60), warm(60)])
def test_a_bare_scheduler_is_judged_as_one_in_a_dict(make):
    class Bare(Scheduled):
        def configure_optimizers(self):
            given = super().configure_optimizers()
            return {"optimizer": given["optimizer"], "lr_scheduler": given["lr_scheduler"]["scheduler"]}

    [warning] = told(Bare(make))
    assert "steps once per epoch, and is as long as the number of updates of this fit" in warning
    assert 'Return {"scheduler": ..., "interval": "step"}' in warning


def test_a_run_whose_loader_may_end_it_early_is_not_judged():
    class Stream:
        def __iter__(self):
            return iter(TinyData(4))

    assert told(Scheduled(one_cycle(50)), Stream(), max_epochs=2, max_steps=60) == []
    assert len(told(Scheduled(one_cycle(50)), Stream(), max_epochs=-1, max_steps=60)) == 1


@pytest.mark.parametrize("make", [cosine, linear, of_transformers, chained, warm])
def test_a_schedule_without_end_is_told(make):
    endless = make(cosine(math.inf)) if make is chained else make(math.inf)
    [warning] = told(Scheduled(endless), max_epochs=-1)
    assert re.search("=inf.* never gets anywhere: .* Say Trainer.max_steps", warning)


def test_batches_that_ranks_share_are_not_those_of_one(monkeypatch):
    monkeypatch.setattr(Strategy, "data_world_size", property(lambda self: 2))
    [warning] = told(Scheduled(cosine(120)))
    assert "is as long as the number of batches on all ranks of this fit, and steps after each of its 60" in warning


def test_who_steps_schedulers_by_hand_is_not_judged():
    class ByHand(Scheduled):
        def lr_scheduler_step(self, scheduler, metric):
            scheduler.step()

    assert told(ByHand(one_cycle(50))) == []


def test_a_run_that_goes_on_is_judged_by_what_is_left(tmp_path):
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(Scheduled(one_cycle(60)), TinyData(20))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(Scheduled(warm(60, then=one_cycle)), TinyData(20))
    trainer.save_checkpoint(tmp_path / "b.ckpt")
    assert told(Scheduled(one_cycle(60)), ckpt_path=tmp_path / "a.ckpt") == []
    assert told(Scheduled(warm(60, then=one_cycle)), ckpt_path=tmp_path / "b.ckpt") == []
    [warning] = told(Scheduled(warm(60, then=one_cycle)), ckpt_path=tmp_path / "b.ckpt", max_epochs=4)
    assert "which steps it 80 times, and raises an error then. Say total_steps=74" in warning
    [warning] = told(Scheduled(one_cycle(60)), ckpt_path=tmp_path / "a.ckpt", max_epochs=4)
    assert "which steps it 80 times, and raises an error then. Say total_steps=80" in warning


def test_it_is_true_that_the_fit_would_end_with_an_error():
    with (
        pytest.warns(UserWarning, match="is over before this fit"),
        pytest.raises(ValueError, match="Tried to step 7 times"),
    ):
        quiet_trainer(max_epochs=2).fit(Scheduled(one_cycle(6)), TinyData(5))


class Permissive:
    """Answers to every name."""

    def __call__(self, step):
        return 1.0

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return None


@pytest.mark.parametrize(
    "arguments", [{"max_time": "00:01:00:00"}, {"reload_dataloaders_every_n_epochs": 1}, {"max_epochs": 3}]
)
def test_a_run_that_may_be_another_one_and_functions_of_any_kind_are_left_alone(arguments, recwarn):
    class Module(TinyModule):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            of_length = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
            of_function = torch.optim.lr_scheduler.LambdaLR(optimizer, Permissive())
            scheduler = of_function if "max_epochs" in arguments else of_length
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    quiet_trainer(**{"max_epochs": 2, **arguments}).fit(Module(), TinyData(3))
    assert not recwarn.list
