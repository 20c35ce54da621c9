from __future__ import annotations

import re
import threading
import warnings
from functools import partial

import pytest
import pytorch_optimizer
import schedulefree
import torch
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau, SequentialLR, StepLR

from tests.callbacks.schedule_preview.schedules import CLASSES, make
from trainkit import Callback, JointOptimizer
from trainkit.callbacks.schedule_preview.rehearsal import Rehearsal
from trainkit.data import TensorLoader
from trainkit.data.batch_sizes import batch_sizes
from trainkit.loops.ahead import Ahead
from trainkit.module.optimizers import SchedulerConfig
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Scheduled(TinyModule):
    """What ``configure_optimizers`` returns is a function of its parameters."""

    def __init__(self, configure):
        super().__init__()
        self.configure = configure

    def configure_optimizers(self):
        return self.configure(list(self.parameters()))


def rates_of(optimizers):
    return [float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]


class Compared(Callback):
    """Foresees the rates when the fit begins, and notes with which ones it then makes its updates."""

    def on_fit_start(self, trainer, module):
        run = trainer.fit_run
        ahead = Ahead.of(run, trainer.num_training_batches, batch_sizes(trainer.train_dataloader, 1))
        self.rehearsal = Rehearsal(run.optimizers, run.schedulers, ahead, shared=(module, trainer))
        with warnings.catch_warnings(action="ignore"):
            self.foreseen = list(self.rehearsal.rates(10**6))
        self.made = []

    def on_before_optimizer_step(self, trainer):
        self.made.append(rates_of(trainer.optimizers))


def compared(module, data=None, ckpt_path=None, **arguments):
    seen = Compared()
    callbacks = [seen, *arguments.pop("callbacks", [])]
    with warnings.catch_warnings(action="ignore"):
        quiet_trainer(**({"max_epochs": 3} | arguments), callbacks=callbacks).fit(
            module, data or TinyData(5), ckpt_path=ckpt_path
        )
    return seen


def groups(parameters):
    one, two = parameters
    return SGD([{"params": [one], "momentum": 0.9}, {"params": [two], "lr": torch.tensor(0.02)}], lr=0.1, momentum=0.5)


@pytest.mark.parametrize("accumulate", [1, {0: 2, 1: 3}], ids=str)
@pytest.mark.parametrize("when", [("step", 1), ("step", 2), ("epoch", 1), ("epoch", 2)], ids=str)
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_what_is_foreseen_is_what_the_run_then_does(kind, when, accumulate):
    def configure(parameters):
        optimizer = groups(parameters)
        interval, frequency = when
        return [optimizer], [{"scheduler": make(kind, optimizer), "interval": interval, "frequency": frequency}]

    seen = compared(Scheduled(configure), accumulate_grad_batches=accumulate)
    assert seen.made
    assert seen.foreseen == seen.made
    assert seen.rehearsal.remarks == []


@pytest.mark.parametrize(
    "arguments",
    [{"max_steps": 7}, {"max_epochs": -1, "max_steps": 8}, {"limit_train_batches": 2}, {"fast_dev_run": 3}],
    ids=str,
)
def test_the_run_is_foreseen_to_its_end(arguments):
    def configure(parameters):
        optimizer = groups(parameters)
        return [optimizer], [
            {"scheduler": StepLR(optimizer, 3), "interval": "step"},
            {"scheduler": StepLR(optimizer, 1, 0.5), "interval": "epoch"},
        ]

    seen = compared(Scheduled(configure), **arguments)
    assert seen.foreseen == seen.made


class Rows(TensorLoader):
    """Five batches, the last of which is short."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(torch.randn(18, 4), torch.randn(18, 2), batch_size=4)


@pytest.mark.parametrize("every", ["3 batches", "7 samples", "2 samples", "30 samples", "3 steps", "2 epochs"])
@pytest.mark.parametrize("accumulate", [1, {0: 2, 1: 3}], ids=str)
@pytest.mark.parametrize("stop_after", [5, 8])
def test_what_goes_by_other_counts_is_foreseen(every, accumulate, stop_after, tmp_path):
    class Save(Callback):
        def on_train_batch_end(self, trainer):
            if trainer.progress.total_batches == stop_after:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    def configure(parameters):
        optimizer = groups(parameters)
        return [optimizer], [{"scheduler": StepLR(optimizer, 1, 0.5), "every": every}]

    arguments = {"accumulate_grad_batches": accumulate}
    whole = compared(Scheduled(configure), Rows(), callbacks=[Save()], **arguments)
    assert whole.foreseen == whole.made
    assert whole.made[0] != whole.made[-1]
    assert whole.rehearsal.reasons == [None, None]
    rest = compared(Scheduled(configure), Rows(), ckpt_path=tmp_path / "a.ckpt", **arguments)
    assert rest.foreseen == rest.made == whole.made[-len(rest.made) :]
    remarks = ["StepLR goes by samples, of which the loader has 4 in a batch."] if "samples" in every else []
    assert rest.rehearsal.remarks == remarks


def test_several_optimizers_are_foreseen_together():
    def configure(parameters):
        one, two = SGD(parameters[:1], lr=0.1), AdamW(parameters[1:], lr=0.01)
        schedulers = [
            {"scheduler": StepLR(two, 2), "interval": "step"},
            {"scheduler": LambdaLR(one, lambda step: step), "interval": "step"},
        ]
        return [JointOptimizer(one, two)], schedulers

    seen = compared(Scheduled(configure))
    assert seen.foreseen == seen.made
    assert len(seen.made[0]) == 2


@pytest.mark.parametrize("stop_after", [3, 5, 7])
def test_a_resumed_run_foresees_what_is_left(tmp_path, stop_after):
    class Save(Callback):
        def on_train_batch_end(self, trainer):
            if trainer.progress.total_batches == stop_after:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    def configure(parameters):
        optimizer = groups(parameters)
        return [optimizer], [
            {"scheduler": StepLR(optimizer, 3), "interval": "step"},
            {"scheduler": make(CLASSES[0], optimizer), "interval": "epoch"},
        ]

    arguments = {"accumulate_grad_batches": 2}
    whole = compared(Scheduled(configure), callbacks=[Save()], **arguments)
    rest = compared(Scheduled(configure), ckpt_path=tmp_path / "a.ckpt", **arguments)
    assert rest.foreseen == rest.made == whole.made[-len(rest.made) :]
    assert len(rest.made) < len(whole.made)


def foreseen(configs, optimizers, updates=4, shared=()):
    ahead = Ahead(
        step=0, epoch=0, batch=0, num_batches=updates, accumulation={0: 1}, max_epochs=1, max_steps=float("inf")
    )
    rehearsal = Rehearsal(optimizers, configs, ahead, shared)
    with warnings.catch_warnings(action="ignore"):
        return rehearsal, [rates[0] for rates in rehearsal.rates(updates)]


def sgd():
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)


class Locked(LambdaLR):
    """Cannot be copied."""

    def __init__(self, optimizer):
        self.lock = threading.Lock()
        super().__init__(optimizer, lambda step: 1.0)


class Bare:
    """A scheduler that tells of no optimizer."""

    def step(self):
        raise AssertionError("it is not to be stepped")

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@pytest.mark.parametrize(
    ("scheduler", "reason"),
    [
        (
            lambda optimizer: Locked(optimizer),
            "Locked cannot be copied .TypeError: .*; it begins with 0.5",
        ),
        (lambda optimizer: Bare(), "Bare does not tell whose rates it sets; it begins with 0.5"),
        (ReduceLROnPlateau, "ReduceLROnPlateau goes by 'val/loss', which nobody can foresee; it begins with 0.5"),
        (
            lambda optimizer: {"scheduler": StepLR(optimizer, 1), "every": "9 samples"},
            "StepLR goes by samples, and the loader does not tell how many are in a batch; it begins with 0.5",
        ),
    ],
)
def test_for_what_cannot_be_foreseen_there_is_a_reason(scheduler, reason):
    optimizer, other = sgd(), sgd()
    made = scheduler(optimizer)
    config = SchedulerConfig(**made) if isinstance(made, dict) else SchedulerConfig(made, "step", monitor="val/loss")
    rehearsal, _ = foreseen([config], [optimizer, other])
    assert re.match(reason, rehearsal.reasons[0])
    # Of which optimizer a scheduler sets the rates, it may not tell.
    assert rehearsal.reasons[1] == (rehearsal.reasons[0] if isinstance(made, Bare) else None)
    assert rehearsal.remarks == []


@pytest.mark.parametrize("kind", [schedulefree.AdamWScheduleFree, pytorch_optimizer.ScheduleFreeAdamW])
def test_an_optimizer_that_warms_up_by_itself_is_not_drawn(kind):
    def rehearsed():
        return foreseen([], [optimizer])[0].reasons

    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.ones(1)
    optimizer = kind([parameter], lr=0.5, warmup_steps=2)
    assert rehearsed() == [f"{kind.__name__} warms up by itself, over 2 updates to 0.5"]
    optimizer.train()
    optimizer.step()
    assert rehearsed() == [f"{kind.__name__} warms up by itself, over 2 updates to 0.5"]
    optimizer.step()
    assert rehearsed() == [None]
    assert foreseen([], [optimizer])[1] == [0.5] * 4


def test_where_a_scheduler_fails_the_curve_ends():
    optimizer = sgd()
    scheduler = OneCycleLR(optimizer, 0.5, total_steps=2)
    rehearsal, rates = foreseen([SchedulerConfig(scheduler, "step")], [optimizer])
    assert len(rates) == 3
    assert rehearsal.remarks[0].startswith("OneCycleLR raises ValueError after step 3, where the fit would end")
    assert scheduler.last_epoch == 0


def test_nothing_of_the_fit_is_touched_or_copied_with_a_scheduler():
    class Holder:
        def __init__(self):
            self.calls = 0

        def factor(self, step):
            self.calls += 1
            return 1 / (step + 1)

        def __deepcopy__(self, memo):
            raise AssertionError("it may be the module")

    optimizer, holder = sgd(), Holder()
    scheduler = LambdaLR(optimizer, holder.factor)
    before = scheduler.state_dict()
    _, rates = foreseen([SchedulerConfig(scheduler, "step")], [optimizer], shared=[holder])
    assert rates == [0.5, 0.25, 0.5 / 3, 0.125]
    assert scheduler.state_dict() == before
    assert scheduler.optimizer is optimizer
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_what_a_function_has_closed_over_is_left_as_it_is():
    optimizer, calls = sgd(), [0]

    def factor(step, seen=[]):  # noqa: B006  # as people write it
        calls[0] += 1
        seen.append(step)
        inner()
        return 1 / (calls[0] + len(seen))

    def inner():
        calls[0] += 1

    scheduler = SequentialLR(optimizer, [LambdaLR(optimizer, partial(factor)), LambdaLR(optimizer, factor)], [2])
    before = [*calls], [*factor.__defaults__[0]], optimizer.param_groups[0]["lr"]
    _, rates = foreseen([SchedulerConfig(scheduler, "step")], [optimizer])
    assert before == ([*calls], [*factor.__defaults__[0]], optimizer.param_groups[0]["lr"])
    made = []
    for _ in rates:
        made.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert made == rates


def test_a_function_that_writes_into_the_optimizer_writes_into_the_stand_in():
    optimizer = sgd()

    class Writing:
        def __init__(self):
            self.optimizer, self.groups = optimizer, lambda: optimizer.param_groups

        def step(self):
            self.groups()[0]["lr"] /= 2

    scheduler = Writing()
    foreseen([SchedulerConfig(scheduler, "step")], [optimizer])
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_scheduler_that_holds_the_module_is_not_tried():
    optimizer = sgd()

    class Holding(LambdaLR):
        def __init__(self, module):
            self.module = module
            super().__init__(optimizer, lambda step: 1.0)

    rehearsal, _ = foreseen([SchedulerConfig(Holding(TinyModule()), "step")], [optimizer])
    assert rehearsal.reasons[0].startswith("Holding holds a module, which it may change")


def test_a_scheduler_that_adds_groups_ends_the_curve():
    optimizer = sgd()

    class Growing(LambdaLR):
        def step(self, *arguments):
            super().step(*arguments)
            if self.last_epoch == 2:
                self.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})

    rehearsal, rates = foreseen([SchedulerConfig(Growing(optimizer, lambda step: 1.0), "step")], [optimizer])
    assert len(rates) == 2 and "Parameter groups come after step 2" in rehearsal.remarks[0]
    assert len(optimizer.param_groups) == 1
