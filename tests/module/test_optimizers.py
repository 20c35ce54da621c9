from __future__ import annotations

import pytest
import schedulefree
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR

from trainkit.errors import ConfigError, OptimizerError, UnknownNameError
from trainkit.module.optimizers import SchedulerConfig, configure, parameters_of
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def sgd():
    return SGD([nn.Parameter(torch.zeros(2))], lr=0.1)


def plateau(optimizer):
    return ReduceLROnPlateau(optimizer)


class CustomScheduler:
    """No LRScheduler, but it steps and can be saved."""

    def step(self):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, state_dict):
        pass


# Shapes

FIRST, SECOND = sgd(), sgd()
STEP, OTHER = StepLR(FIRST, 1), ExponentialLR(SECOND, 0.5)

SHAPES = {
    "optimizer": (FIRST, [FIRST], []),
    "list": ([FIRST, SECOND], [FIRST, SECOND], []),
    "tuple": ((FIRST, SECOND), [FIRST, SECOND], []),
    "empty list": ([], [], []),
    "optimizers and schedulers": (([FIRST, SECOND], [STEP, OTHER]), [FIRST, SECOND], [STEP, OTHER]),
    "as lists": ([[FIRST], [STEP]], [FIRST], [STEP]),
    "as tuples": (((FIRST,), (STEP,)), [FIRST], [STEP]),
    "no schedulers": (([FIRST], []), [FIRST], []),
    "a bare scheduler": (([FIRST], STEP), [FIRST], [STEP]),
    "scheduler dicts": (([FIRST], [{"scheduler": STEP}]), [FIRST], [STEP]),
    "dict": ({"optimizer": FIRST}, [FIRST], []),
    "dict with scheduler": ({"optimizer": FIRST, "lr_scheduler": STEP}, [FIRST], [STEP]),
    "dict without": ({"optimizer": FIRST, "lr_scheduler": None}, [FIRST], []),
    "dict with scheduler dict": ({"optimizer": FIRST, "lr_scheduler": {"scheduler": STEP}}, [FIRST], [STEP]),
    "list of dicts": (
        [{"optimizer": FIRST, "lr_scheduler": STEP}, {"optimizer": SECOND}],
        [FIRST, SECOND],
        [STEP],
    ),
    "tuple of dicts": (
        ({"optimizer": FIRST}, {"optimizer": SECOND, "lr_scheduler": {"scheduler": OTHER}}),
        [FIRST, SECOND],
        [OTHER],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_its_optimizers_and_schedulers(shape):
    result, optimizers, schedulers = SHAPES[shape]
    configured = configure(result)
    assert configured[0] == optimizers
    assert [config.scheduler for config in configured[1]] == schedulers


def test_none_is_no_optimizer_and_says_so():
    with pytest.warns(UserWarning, match="returned None"):
        assert configure(None) == ([], [])


# Scheduler configs


def test_defaults_are_once_per_epoch():
    ((config,),) = (configure(([FIRST], [STEP]))[1],)
    assert config == SchedulerConfig(STEP, "epoch", 1, monitor=None, strict=True, name=None, reduce_on_plateau=False)


def test_every_key_of_the_dict_is_taken():
    given = {
        "scheduler": STEP,
        "interval": "step",
        "frequency": 3,
        "monitor": "val/loss",
        "strict": False,
        "name": "warmup",
        "reduce_on_plateau": True,
    }
    (config,) = configure({"optimizer": FIRST, "lr_scheduler": given})[1]
    assert {key: getattr(config, key) for key in given} == given


def test_a_key_of_no_meaning_is_left_out_and_named():
    with pytest.warns(UserWarning, match=r"the keys 'opt_idx' mean nothing here.*scheduler, interval"):
        (config,) = configure({"optimizer": FIRST, "lr_scheduler": {"scheduler": STEP, "opt_idx": 0}})[1]
    assert config == SchedulerConfig(STEP)


def test_a_key_of_the_scheduler_that_stands_beside_it_is_told_where_it_belongs():
    with pytest.warns(
        UserWarning, match=r"Beside \"scheduler\" 'interval' would: \"lr_scheduler\": \{\"scheduler\": \.\.\."
    ):
        (config,) = configure({"optimizer": FIRST, "lr_scheduler": STEP, "interval": "step"})[1]
    assert config == SchedulerConfig(STEP)


def test_a_plateau_scheduler_is_recognised():
    optimizer = sgd()
    result = {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau(optimizer), "monitor": "val/loss"}}
    (config,) = configure(result)[1]
    assert config.reduce_on_plateau


def test_monitor_may_stand_beside_the_optimizer():
    optimizer = sgd()
    result = {"optimizer": optimizer, "lr_scheduler": plateau(optimizer), "monitor": "val/loss"}
    assert configure(result)[1][0].monitor == "val/loss"


def test_a_plateau_scheduler_that_the_user_steps_needs_no_monitor():
    optimizer = sgd()
    (config,) = configure(([optimizer], [plateau(optimizer)]), automatic=False)[1]
    assert config.monitor is None


def test_a_scheduler_of_any_class_may_step():
    scheduler = CustomScheduler()
    assert configure(([FIRST], [scheduler]))[1][0].scheduler is scheduler


# What is wrong


@pytest.mark.parametrize(
    ("every", "when"),
    [("5 steps", ("step", 5)), ("10k samples", ("step", 1)), ("250 batches", ("step", 1)), ("2 epochs", ("epoch", 2))],
)
def test_every_stands_in_place_of_interval_and_frequency(every, when):
    _, (config,) = configure(with_scheduler(scheduler=STEP, every=every))
    assert config.goes_by_updates() is every.endswith(("step", "steps", "epoch", "epochs"))
    assert (config.interval, config.frequency) == when
    assert str(config.counts()) == every.replace("10k", "10000")
    _, (bare,) = configure(with_scheduler(scheduler=STEP))
    assert bare.counts() is None
    assert bare.goes_by_updates()


def with_scheduler(**given):
    return {"optimizer": FIRST, "lr_scheduler": given}


WRONG = [
    (3, OptimizerError, r"int \(3\).*list of optimizers"),
    ("adam", OptimizerError, r"str \('adam'\)"),
    (SGD, OptimizerError, "the class SGD"),
    ([FIRST, "adam"], OptimizerError, r"str \('adam'\) as an optimizer"),
    ((FIRST, STEP), OptimizerError, r"StepLR.*\(\[optimizers\], \[schedulers\]\)"),
    ([FIRST, FIRST], OptimizerError, "more than once"),
    ({"lr_scheduler": STEP}, OptimizerError, "without 'optimizer'.*lr_scheduler"),
    ({}, OptimizerError, "without 'optimizer'"),
    ({"optimizer": 3}, OptimizerError, "int"),
    ({"optimiser": FIRST}, UnknownNameError, "'optimiser'.*configure_optimizers.*did you mean 'optimizer'"),
    ([{"optimizer": FIRST, "lr_schedular": STEP}], UnknownNameError, "did you mean 'lr_scheduler'"),
    (with_scheduler(interval="step"), OptimizerError, "without 'scheduler'.*interval"),
    (with_scheduler(scheduler=STEP, intervall="step"), UnknownNameError, "did you mean 'interval'"),
    (with_scheduler(scheduler=STEP, interval="batch"), UnknownNameError, "'batch'.*epoch, step"),
    (with_scheduler(scheduler=STEP, frequency=0), OptimizerError, "frequency=0 of StepLR.*at least 1"),
    (with_scheduler(scheduler=STEP, frequency=1.0), OptimizerError, "frequency=1.0"),
    (with_scheduler(scheduler=STEP, every="2 epoks"), ConfigError, "lr_scheduler: every='2 epoks'.*mean '2 epochs'"),
    (with_scheduler(scheduler=STEP, every=500), ConfigError, "every=500 is no interval.*Is it '500 steps'"),
    (with_scheduler(scheduler=STEP, every="30 min"), OptimizerError, "every='30 min' is a time.*Say steps, batches"),
    (with_scheduler(scheduler=STEP, every="2 steps", interval="step"), OptimizerError, "contradicts interval='step'"),
    (
        with_scheduler(scheduler=STEP, every="2 epochs", frequency=2),
        OptimizerError,
        "contradicts frequency=2, in whose",
    ),
    (with_scheduler(scheduler=STEP, interval="500 steps"), OptimizerError, "\"every\": '500 steps', without interval"),
    (with_scheduler(scheduler=3), OptimizerError, r"int \(3\).*is no scheduler.*LRScheduler"),
    (with_scheduler(scheduler=StepLR), OptimizerError, "the class StepLR is no scheduler"),
    (([FIRST], [FIRST]), OptimizerError, "SGD.*is no scheduler"),
    (([FIRST], [OTHER]), OptimizerError, r"ExponentialLR.*SGD\) that was not returned"),
    (([FIRST], [ReduceLROnPlateau(FIRST)]), OptimizerError, 'ReduceLROnPlateau.*metric.*"monitor"'),
]


@pytest.mark.parametrize(("result", "error", "message"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_used_is_an_error_that_says_why(result, error, message):
    with pytest.raises(error, match=f"(?s){message}") as caught:
        configure(result)
    assert isinstance(caught.value, ValueError)


def test_an_optimizer_without_parameters_is_an_error():
    optimizer = Adam([{"params": []}, {"params": []}])
    with pytest.raises(OptimizerError, match=r"(?s)Adam.*no parameters.*self.parameters\(\)"):
        configure(optimizer)


def test_parameters_of_an_optimizer_are_those_of_all_groups_in_their_order():
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(4)]
    optimizer = SGD([{"params": parameters[2:]}, {"params": parameters[:1], "lr": 1.0}], lr=0.1)
    optimizer.add_param_group({"params": parameters[1]})

    expected = [parameters[index] for index in (2, 3, 0, 1)]
    assert all(found is given for found, given in zip(parameters_of(optimizer), expected, strict=True))


def test_what_steps_and_is_no_optimizer_of_torch_is_told_why():
    class Module(TinyModule):
        def configure_optimizers(self):
            return schedulefree.ScheduleFreeWrapper(torch.optim.SGD(self.parameters(), lr=0.1))

    with pytest.raises(OptimizerError, match="it is no torch.optim.Optimizer"):
        quiet_trainer(max_epochs=1).fit(Module(), TinyData(1))
