"""What changes weights on its own goes on as if the run had never stopped."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit.callbacks import (
    BackboneFinetuning,
    EMAWeightAveraging,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from trainkit.testing import TinyData, TinyModule, assert_same_weights, quiet_trainer

MAKE = {
    "mean": WeightAveraging,
    "exponential mean": lambda: EMAWeightAveraging(decay=0.5, update_every_n_steps=2),
    "mean of epochs": lambda: StochasticWeightAveraging(0.02, 2, annealing_epochs=2),
    "finetuning": lambda: BackboneFinetuning(1, lambda epoch: 1.5),
}


class Module(TinyModule):
    """A backbone with BatchNorm below the layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    def forward(self, x):
        return super().forward(self.backbone(x))

    def configure_optimizers(self):
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)]


def fit(name, folder=None, ckpt_path=None, module=Module, **arguments):
    callbacks = [MAKE[name]()]
    if folder is not None:
        callbacks.append(ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1))
    module = module()
    trainer = quiet_trainer(max_epochs=4, callbacks=callbacks, enable_checkpointing=folder is not None, **arguments)
    trainer.fit(module, TinyData(2), TinyData(1), ckpt_path=ckpt_path)
    return module


@pytest.mark.filterwarnings("ignore:nothing is left to train")
@pytest.mark.parametrize("name", MAKE)
def test_a_run_goes_on_from_every_step_as_if_it_had_not_stopped(name, tmp_path):
    whole = fit(name, tmp_path)
    checkpoints = sorted(tmp_path.glob("*.ckpt"))
    assert len(checkpoints) == 8
    for path in checkpoints:
        assert_same_weights(fit(name, ckpt_path=path), whole)


@pytest.mark.filterwarnings("ignore:nothing is left to train")
def test_an_average_of_doubles_is_not_rounded(tmp_path):
    whole = fit("exponential mean", tmp_path, precision="64-true")
    for path in sorted(tmp_path.glob("*.ckpt")):
        assert_same_weights(fit("exponential mean", ckpt_path=path, precision="64-true"), whole)


class FreezesMore(Module):
    """Freezes a parameter of the backbone by itself, in the epoch in which the callback has thawed it."""

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.backbone[0].weight.requires_grad_(False)


@pytest.mark.filterwarnings("ignore:nothing is left to train")
def test_what_the_module_froze_beside_the_callback_stays_frozen(tmp_path):
    whole = fit("finetuning", tmp_path, module=FreezesMore)
    for path in sorted(tmp_path.glob("*.ckpt")):
        assert_same_weights(fit("finetuning", ckpt_path=path, module=FreezesMore), whole)


class Holder(nn.Module):
    """What torch.compile makes of a module, without compiling it."""

    def __init__(self, module):
        super().__init__()
        self._orig_mod = module

    def forward(self, x):
        return self._orig_mod(x)


class Compiled(Module):
    """`Module`, with other names for the weights and children of its backbone."""

    def __init__(self):
        super().__init__()
        self.backbone[0].bias.requires_grad = False
        self.backbone = Holder(self.backbone)


class Uncompiled(Module):
    def __init__(self):
        super().__init__()
        self.backbone[0].bias.requires_grad = False


@pytest.mark.filterwarnings("ignore:nothing is left to train")
@pytest.mark.parametrize("modules", [(Compiled, Uncompiled), (Uncompiled, Compiled)], ids=["without", "with"])
@pytest.mark.parametrize("name", MAKE)
def test_a_run_goes_on_with_its_layers_in_a_wrapper_or_without(name, modules, tmp_path):
    first, then = modules
    whole = fit(name, tmp_path, module=first)
    for path in sorted(tmp_path.glob("*.ckpt")):
        went_on = fit(name, ckpt_path=path, module=then)
        weights = [[*module.parameters(), *module.buffers()] for module in (went_on, whole)]
        assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
        flags = [[each.requires_grad for each in module.parameters()] for module in (went_on, whole)]
        assert flags[0] == flags[1]
