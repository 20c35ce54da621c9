from __future__ import annotations

import warnings

import pytest
import torch

from trainkit import TrainModule
from trainkit.errors import ConfigError, ModuleError, OptimizerError
from trainkit.strategies.single import SingleDevice
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.bind_optimizers import check_optimizers, make_optimizers

STRATEGY = SingleDevice("cpu")


class Manual(TinyModule):
    automatic_optimization = False


class Distributed(SingleDevice):
    is_distributed = True


def check(module, optimizers=None, strategy=STRATEGY, **arguments):
    optimizers = make_optimizers(module)[0] if optimizers is None else optimizers
    check_optimizers(module, optimizers, strategy, quiet_trainer(**arguments).arguments.optimization)


# Made by the module


def test_optimizers_and_schedulers_are_asked_for():
    class WithScheduler(TinyModule):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    optimizers, schedulers = make_optimizers(WithScheduler())
    assert [type(optimizer) for optimizer in optimizers] == [torch.optim.SGD]
    assert schedulers[0].scheduler.optimizer is optimizers[0]


def test_a_module_has_to_say_how_it_is_optimized():
    class Silent(TrainModule):
        pass

    with pytest.raises(ModuleError, match="Silent has no configure_optimizers"):
        make_optimizers(Silent())


def test_parameters_that_are_not_of_the_module_are_counted_and_warned_of():
    class Strangers(TinyModule):
        def configure_optimizers(self):
            others = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
            return torch.optim.Adam([{"params": self.layer.weight}, {"params": others}])

    with pytest.warns(UserWarning, match=r"2 of the 3 parameters of Adam are not among Strangers.parameters\(\)"):
        make_optimizers(Strangers())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_optimizers(TinyModule())


# Refused


def test_several_optimizers_are_for_manual_optimization():
    optimizers = [torch.optim.SGD(TinyModule().parameters(), lr=0.1) for _ in range(2)]
    with pytest.raises(OptimizerError, match="returned 2 optimizers[\\s\\S]*automatic_optimization = False"):
        check(TinyModule(), optimizers)
    check(Manual(), optimizers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gradient_clip_val": 0.5}, "gradient_clip_val=0.5[\\s\\S]*Manual[\\s\\S]*self.clip_gradients"),
        ({"accumulate_grad_batches": 2}, "accumulate_grad_batches=2[\\s\\S]*every few batches"),
        ({"accumulate_grad_batches": {3: 2}}, "accumulate_grad_batches={3: 2}"),
        ({"accumulate_grad_batches": "auto"}, "accumulate_grad_batches='auto'"),
    ],
)
def test_arguments_that_a_module_has_to_heed_itself_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        check(Manual(), **arguments)
    check(TinyModule(), **arguments)


def test_arguments_that_ask_for_nothing_are_fine():
    check(Manual(), gradient_clip_val=0.0, accumulate_grad_batches={0: 1})


class OwnOptimizerStep(TinyModule):
    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)


class WithLbfgs(TinyModule):
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters())


class Synchronizes(TinyModule):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.SyncBatchNorm(2)


@pytest.mark.parametrize(
    ("kind", "strategy", "why"),
    [
        (OwnOptimizerStep, STRATEGY, "OwnOptimizerStep has its own optimizer_step"),
        (WithLbfgs, STRATEGY, "LBFGS evaluates the loss several times"),
        (Synchronizes, Distributed("cpu"), "SyncBatchNorm lets ranks meet"),
    ],
)
def test_a_step_that_cannot_be_begun_anew_is_not_split(kind, strategy, why):
    with pytest.raises(ConfigError, match=f"{why}[\\s\\S]*give a number of batches"):
        check(kind(), strategy=strategy, accumulate_grad_batches="auto")
    check(kind(), strategy=strategy, accumulate_grad_batches=4)


def test_a_single_process_has_nobody_to_meet():
    check(Synchronizes(), accumulate_grad_batches="auto")


# What step() does


@pytest.mark.filterwarnings("ignore:epoch 0 has changed no weight")
@pytest.mark.parametrize(
    ("kind", "has_own"), [(TinyModule, False), (Manual, True), (OwnOptimizerStep, True), (WithLbfgs, True)]
)
def test_step_may_be_called_where_the_loop_leaves_updates_to_somebody(kind, has_own):
    class Module(kind):
        def on_train_batch_end(self):
            if not has_own:
                with pytest.raises(OptimizerError, match=r"SGD.step\(\) was called with automatic optimization"):
                    self.optimizers().step()
                with pytest.raises(OptimizerError):
                    self.optimizers().step(lambda: None)
            elif kind is not WithLbfgs:
                self.optimizers().step()

    module = Module()
    quiet_trainer().fit(module, TinyData(1))
