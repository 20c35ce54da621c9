"""Stock optimizers, as they are, within a graph."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, lr_scheduler

from tests.loops.compiled.test_step import assert_compiled_equals_eager, compilations_of, train
from trainkit import JointOptimizer
from trainkit.errors import CompileError
from trainkit.loops.compiled.optimizer import (
    TracedOptimizer,
    copied,
    cycles_momentum,
    makes_state,
    own_count,
)
from trainkit.testing import TinyData, TinyModule, quiet_trainer

KINDS = ["Adagrad", "Adam", "NAdam", "RMSprop"]
OPTIONS = [
    (AdamW, {"fused": True}),
    (AdamW, {"foreach": True}),
    (AdamW, {"amsgrad": True, "maximize": True}),
    (SGD, {"fused": True, "momentum": 0.9}),
    (SGD, {"lr": torch.tensor(0.05)}),
]


def trained_by(make, scheduled=None):
    class Trained(TinyModule):
        def configure_optimizers(self):
            optimizer = make(self)
            scheduler = scheduled(optimizer) if scheduled else None
            return (
                {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
                if scheduled
                else optimizer
            )

    return Trained


@pytest.mark.parametrize("kind", KINDS)
def test_optimizers(kind):
    make = getattr(torch.optim, kind)
    assert_compiled_equals_eager(trained_by(lambda module: make(module.parameters(), lr=0.01)), tolerance=1e-4)


@pytest.mark.parametrize(("kind", "options"), OPTIONS, ids=str)
def test_options(kind, options):
    make = trained_by(lambda module: kind(module.parameters(), **({"lr": 0.01} | options)))
    assert_compiled_equals_eager(make, tolerance=1e-4)


def test_groups_keep_their_learning_rates():
    def make(module):
        return SGD([{"params": module.layer.weight}, {"params": module.layer.bias, "lr": 0.3}], lr=0.01, momentum=0.9)

    assert_compiled_equals_eager(trained_by(make, lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.8)))


SCHEDULES = {
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=30),
    "cyclic": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, step_size_up=3),
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=10),
    "one after the other": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, total_iters=3), lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)],
        milestones=[3],
    ),
}


@pytest.mark.filterwarnings("ignore:.* rises again after:UserWarning")
@pytest.mark.parametrize(
    ("kind", "schedule"),
    [(SGD, "one cycle"), (AdamW, "cyclic"), (SGD, "one after the other"), (AdamW, "cosine")],
)
def test_schedules_are_followed_by_one_graph(kind, schedule):
    options = {"momentum": 0.9} if kind is SGD else {}
    make = trained_by(lambda module: kind(module.parameters(), lr=0.01, **options), SCHEDULES[schedule])
    compilations = compilations_of(lambda: assert_compiled_equals_eager(make, TinyData(num_batches=8)))
    # An older torch sees only at the second step that a momentum changes.
    assert compilations == 1 if torch.__version__ >= "2.15" else compilations <= 2


def test_hyperparameters_that_a_callback_changes_are_followed():
    class Cooling(TinyModule):
        def on_train_batch_end(self, trainer):
            trainer.optimizers[0].param_groups[0]["lr"] *= 0.9

    assert_compiled_equals_eager(Cooling, TinyData(num_batches=8))


def test_numbers_of_the_optimizer_stay_numbers():
    module = trained_by(lambda module: AdamW(module.parameters(), lr=0.01), SCHEDULES["one cycle"])()
    trainer = train(module, compile="step")
    group = trainer.optimizers[0].param_groups[0]
    assert type(group["lr"]) is float
    assert [type(beta) for beta in group["betas"]] == [float, float]


def test_optimizer_that_looks_at_values_is_refused():
    make = trained_by(lambda module: torch.optim.Adafactor(module.parameters(), lr=0.01))
    with pytest.raises(CompileError, match="cannot make one graph"):
        quiet_trainer(compile="step").fit(make(), TinyData())


def test_state_that_is_missing_is_seen():
    module = TinyModule()
    parameters = list(module.parameters())
    assert not makes_state(SGD(parameters, lr=0.1), parameters)
    optimizer = SGD(parameters, lr=0.1, momentum=0.9)
    assert makes_state(optimizer, parameters)
    module.loss(TinyData()[0]).backward()
    weights = [parameter.clone() for parameter in parameters]
    makes_state(optimizer, parameters)
    assert all(map(torch.equal, weights, parameters))
    optimizer.step()
    assert not makes_state(optimizer, parameters)


def test_schedulers_that_cycle_momentum_are_known():
    optimizer = SGD(TinyModule().parameters(), lr=0.1, momentum=0.9)
    assert cycles_momentum(lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9))
    assert not cycles_momentum(lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9, cycle_momentum=False))
    assert not cycles_momentum(lr_scheduler.StepLR(optimizer, 1))
    chained = lr_scheduler.ChainedScheduler([lr_scheduler.CyclicLR(optimizer, 0.01, 0.1)], optimizer)
    assert cycles_momentum(chained)


def test_constant_that_a_callback_changes_at_every_step_is_named():
    class Decaying(TinyModule):
        def on_train_batch_end(self, trainer):
            trainer.optimizers[0].param_groups[0]["weight_decay"] += 0.1

    with pytest.raises(CompileError, match=r"\['weight_decay'\][\s\S]*no hyperparameter but learning rates"):
        quiet_trainer(compile="step").fit(Decaying(), TinyData(num_batches=8))


def test_logged_learning_rate_is_named():
    class Logging(trained_by(lambda module: SGD(module.parameters(), lr=0.1), SCHEDULES["cosine"])):
        def training_step(self, batch, batch_idx):
            self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
            return super().training_step(batch, batch_idx)

    with pytest.raises(CompileError, match="LearningRateMonitor"):
        quiet_trainer(compile="step").fit(Logging(), TinyData(num_batches=8))


def test_counters_of_updates_are_put_where_the_parameters_are():
    weight = nn.Parameter(torch.zeros(2, device="meta"))
    optimizer = torch.optim.AdamW([weight])
    optimizer.state[weight]["step"] = torch.tensor(3.0)
    TracedOptimizer(optimizer, [], torch.device("cpu")).put_counters_on_device()
    assert optimizer.state[weight]["step"].device.type == "meta"


class Counting(SGD):
    """Has what torch does not know: an attribute of its own, and a count in its groups."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.1)
        self.scale = 2.0

    def step(self):
        for group in self.param_groups:
            group["count"] = group.get("count", 0) + int(self.scale)
        super().step()


def test_copies_have_what_torch_does_not_know():
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    joint = JointOptimizer(Counting(parameters), SGD([torch.nn.Parameter(torch.zeros(3))], lr=0.2))
    memo = {}
    copy = copied(joint, memo)
    assert [type(each) for each in copy.optimizers] == [Counting, SGD]
    assert copy.optimizers[0].scale == 2.0
    assert copy.param_groups[0]["params"][0] is memo[id(parameters[0])] is not parameters[0]


def test_counts_in_groups_are_found_and_nothing_changes():
    parameters = [torch.nn.Parameter(torch.ones(2))]
    optimizer = Counting(parameters)
    assert own_count(optimizer) == "count"
    assert "count" not in optimizer.param_groups[0] and parameters[0].grad is None
    assert own_count(SGD(parameters, lr=0.1)) == ""


def test_counts_of_the_optimizer_itself_are_found():
    class Itself(SGD):
        number = 0

        def step(self):
            self.number += 1
            super().step()

    assert own_count(Itself([torch.nn.Parameter(torch.ones(2))], lr=0.1)) == "number"


def test_an_optimizer_that_counts_in_its_groups_is_refused():
    class Module(TinyModule):
        def configure_optimizers(self):
            return Counting(self.parameters())

    with pytest.raises(CompileError, match="each step of Counting changes its number 'count'"):
        quiet_trainer(compile="step", max_epochs=1).fit(Module(), TinyData(1))
