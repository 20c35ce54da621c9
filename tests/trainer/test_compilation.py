"""What ``compile`` refuses and why, and what ``compile=True`` compiles."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from trainkit import TrainModule
from trainkit.errors import CompileError, ConfigError
from trainkit.strategies.data_parallel import DataParallel
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer
from trainkit.trainer.compilation import WITHIN


def fit(module=None, **arguments):
    quiet_trainer(compile="step", **arguments).fit(module or TinyModule(), TinyData())


@pytest.mark.parametrize("choice", ["steps", 2, "layers"])
def test_unknown_choice_is_refused(choice):
    with pytest.raises(ConfigError, match=rf"compile={choice!r} is not usable[\s\S]*'step'"):
        quiet_trainer(compile=choice)


def test_looking_at_single_operations_is_refused():
    with pytest.raises(ConfigError, match="detect_anomaly"):
        quiet_trainer(compile="step", detect_anomaly=True)


@pytest.mark.parametrize("choice", ["step", "cuda-graph"])
def test_to_stop_at_a_loss_that_is_not_finite_is_refused_beside_a_compiled_step(choice):
    with pytest.raises(ConfigError, match=rf"on_nonfinite_loss='stop'.*compile='{choice}'.*Use 'warn'"):
        quiet_trainer(compile=choice, on_nonfinite_loss="stop")


@pytest.mark.parametrize("hook", WITHIN)
def test_plugin_that_listens_within_the_graph_is_refused_by_name(hook):
    with pytest.raises(CompileError, match=rf"watcher listens on {hook}[\s\S]*on_train_batch_end"):
        fit(callbacks=[Recorder([hook], name="watcher")])


def test_module_that_listens_within_the_graph_is_refused():
    class Watching(TinyModule):
        def on_after_backward(self):
            pass

    with pytest.raises(CompileError, match="Watching listens on on_after_backward"):
        fit(Watching())


class Manual(TinyModule):
    automatic_optimization = False


class OwnBackward(TinyModule):
    def backward(self, loss):
        loss.backward()


class OwnOptimizerStep(TinyModule):
    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        optimizer.step(optimizer_closure)


class Lbfgs(TinyModule):
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters())


class WithStepHook(TinyModule):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        optimizer.register_step_post_hook(lambda *_: None)
        return optimizer


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Manual, "does backward and updates itself"),
        (OwnBackward, "has its own backward"),
        (OwnOptimizerStep, "has its own optimizer_step"),
        (Lbfgs, "LBFGS evaluates the loss through a closure"),
        (WithStepHook, "SGD has step hooks"),
    ],
)
def test_module_that_does_what_a_graph_cannot_is_refused(kind, reason):
    with pytest.raises(CompileError, match=rf"{reason}[\s\S]*to do"):
        fit(kind())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"precision": "16-mixed"}, "precision '16-mixed' has its own scale"),
        ({"strategy": DataParallel(["cpu"])}, "strategy 'dp' has work to do"),
    ],
    ids=["16-mixed", "dp"],
)
def test_part_that_does_what_a_graph_cannot_is_refused(arguments, reason):
    with pytest.raises(CompileError, match=reason):
        fit(**arguments)


def test_branch_on_values_is_refused_with_its_line():
    class Branching(TinyModule):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return 2 * loss if loss > 1 else loss

    with pytest.raises(CompileError) as caught:
        fit(Branching())
    assert "return 2 * loss if loss > 1 else loss" in str(caught.value)
    assert "torch.where" in str(caught.value)


# compile=True


class Layered(TrainModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.heads = nn.ModuleList([nn.Linear(4, 2)])
        self.loss = nn.MSELoss()

    def training_step(self, batch, batch_idx):
        x, y = batch
        return self.loss(self.heads[0](self.net(x)), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own, as it traces
def test_layers_are_compiled_in_place():
    import torch._inductor.config as config

    torch.manual_seed(0)
    module, eager = Layered(), Layered()
    eager.load_state_dict(module.state_dict())
    with config.patch(fallback_by_default=True):
        quiet_trainer(compile=True).fit(module, TinyData())
    quiet_trainer().fit(eager, TinyData())

    for name, value in eager.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value)
    compiled = [part for part in module.modules() if part._compiled_call_impl is not None]
    assert compiled == [module, module.net, module.heads[0]]


def test_copies_of_layers_are_not_compiled():
    with pytest.raises(CompileError, match="strategy 'dp'"):
        quiet_trainer(compile=True, strategy=DataParallel(["cpu"])).fit(TinyModule(), TinyData())


@pytest.mark.slow
def test_nothing_of_the_compiler_is_imported_for_others():
    program = "import sys, trainkit.trainer.call; assert not {'torch._dynamo', 'torch._inductor'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", program], check=True)
