"""Optimizers with train and eval modes, beside a loop by hand that switches them."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from pytorch_optimizer import ScheduleFreeWrapper
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim import SGD, Muon, Optimizer

import trainkit
from trainkit import JointOptimizer, split_parameters
from trainkit.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from trainkit.hooks.specs import hookimpl
from trainkit.module.optimizer_modes import OptimizerModes, has_modes
from trainkit.storage.files import read_checkpoint
from trainkit.testing import assert_same_state, assert_same_weights, quiet_trainer

EPOCHS, BATCHES = 3, 4
pytestmark = pytest.mark.filterwarnings("ignore:nothing is left to train")


def joint(module):
    matrices, rest = split_parameters(module)
    return JointOptimizer(Muon(matrices, lr=0.02), SGDScheduleFree(rest, lr=0.3))


class Swapping(SGD):
    """Another way to have modes: it exchanges the weights with a mean of them, and notes nowhere in which it is."""

    is_swapped = False

    def step(self, closure=None):
        super().step(closure)
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            mean = state.setdefault("mean", parameter.detach().clone())
            mean.lerp_(parameter.detach(), 0.3)

    def train(self):
        self._hold(False)

    def eval(self):
        self._hold(True)

    @torch.no_grad()
    def _hold(self, hold):
        if hold is not self.is_swapped:
            self.is_swapped = hold
            for parameter in self.param_groups[0]["params"]:
                mean = self.state[parameter].get("mean", parameter)
                weights = parameter.clone()
                parameter.copy_(mean)
                mean.copy_(weights)


MAKERS = {
    "adamw": lambda module: AdamWScheduleFree(module.parameters(), lr=0.05, warmup_steps=2),
    "sgd": lambda module: SGDScheduleFree(module.parameters(), lr=0.3, weight_decay=0.01),
    "joint": joint,
    "wrapped": lambda module: ScheduleFreeWrapper(SGD(module.parameters(), lr=0.1)),
    "swapping": lambda module: Swapping(module.parameters(), lr=0.1),
}
VALIDATIONS = {
    "none": {"limit_val_batches": 0},
    "each epoch": {},
    "within epochs": {"val_check_interval": 0.5},
    "every second": {"check_val_every_n_epoch": 2},
}


class Module(trainkit.TrainModule):
    def __init__(self, kind="adamw"):
        super().__init__()
        self.kind = kind
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        self.validated = []

    def loss(self, batch):
        return mse_loss(self.network(batch[0]), batch[1])

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch))
        if batch_idx == 0:
            self.validated.append(weights_of(self))

    def test_step(self, batch, batch_idx):
        self.validation_step(batch, batch_idx)

    def configure_optimizers(self):
        return MAKERS[self.kind](self)


def data():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(5, 4, generator=generator), torch.randn(5, 2, generator=generator)) for _ in range(BATCHES)]


def weights_of(module):
    return copy.deepcopy({name: value for name, value in module.state_dict().items() if name.startswith("network")})


def switch(optimizer, mode):
    for each in optimizer.optimizers if isinstance(optimizer, JointOptimizer) else [optimizer]:
        if hasattr(each, mode):
            getattr(each, mode)()


def by_hand(kind, validation):
    """Return what the loop by hand ends with, and what it validates."""
    module = Module(kind)
    optimizer = module.configure_optimizers()
    validated = []
    for epoch in range(EPOCHS):
        for index, batch in enumerate(data()):
            if index == 0 or (validation == "within epochs" and index == BATCHES // 2):
                switch(optimizer, "train")
            module.loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            is_last = index == BATCHES - 1
            is_due = {"each epoch": is_last, "within epochs": index % 2, "every second": is_last and epoch % 2}
            if is_due.get(validation):
                switch(optimizer, "eval")
                validated.append(weights_of(module))
    switch(optimizer, "eval")
    return weights_of(module), validated


def fit(kind, ckpt_path=None, epochs=EPOCHS, module=Module, **arguments):
    made = module(kind)
    trainer = quiet_trainer(**{"max_epochs": epochs, "num_sanity_val_steps": 0} | arguments)
    trainer.fit(made, data(), data()[:2], ckpt_path=ckpt_path)
    return made, trainer


class Save(Callback):
    """Saves by hand whenever one of the hooks is called, ahead of the other plugins or behind them."""

    stage = "decide"
    hooks = ("on_train_batch_end", "on_validation_batch_end", "on_validation_end", "on_train_epoch_end", "on_train_end")

    def __init__(self, folder):
        self.folder = folder
        self.weights = {}

    def save(self, trainer, module, hook):
        path = self.folder / f"{len(self.weights):02}-{hook}.ckpt"
        trainer.save_checkpoint(path)
        self.weights[path] = weights_of(module)

    @hookimpl(tryfirst=True)
    def on_train_batch_end(self, trainer, module):
        self.save(trainer, module, "on_train_batch_end")

    @hookimpl(tryfirst=True)
    def on_validation_batch_end(self, trainer, module):
        self.save(trainer, module, "on_validation_batch_end")

    @hookimpl(tryfirst=True)
    def on_validation_end(self, trainer, module):
        self.save(trainer, module, "on_validation_end")

    @hookimpl(tryfirst=True)
    def on_train_epoch_end(self, trainer, module):
        self.save(trainer, module, "on_train_epoch_end")

    @hookimpl(tryfirst=True)
    def on_train_end(self, trainer, module):
        self.save(trainer, module, "on_train_end")


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("validation", VALIDATIONS)
def test_training_and_validation_are_those_of_the_loop_by_hand(kind, validation):
    module, _ = fit(kind, **VALIDATIONS[validation])
    weights, validated = by_hand(kind, validation)
    assert_same_state(weights_of(module), weights)
    assert_same_state(module.validated, validated)


@pytest.mark.parametrize("averages", [False, True])
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("validation", VALIDATIONS)
def test_saving_changes_nothing_and_from_everywhere_a_run_goes_on(tmp_path, kind, validation, averages):
    def averaging():
        return [EMAWeightAveraging(decay=0.6)] if averages else []

    alone, trainer = fit(kind, callbacks=averaging(), **VALIDATIONS[validation])
    trainer.save_checkpoint(tmp_path / "alone.ckpt")
    save = Save(tmp_path)
    saving, _ = fit(kind, callbacks=[save, *averaging()], **VALIDATIONS[validation])
    assert_same_weights(saving, alone)
    assert_same_state(saving.validated, alone.validated)
    expected = read_checkpoint(tmp_path / "alone.ckpt")

    for path in save.weights:
        module, trainer = fit(kind, path, callbacks=averaging(), **VALIDATIONS[validation])
        assert_same_weights(module, alone)
        trainer.save_checkpoint(tmp_path / "again.ckpt")
        again = read_checkpoint(tmp_path / "again.ckpt")
        for key in ("state_dict", "current_model_state", "optimizer_states"):
            assert_same_state(again.get(key), expected.get(key))


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("validation", VALIDATIONS)
def test_what_is_saved_is_what_an_evaluation_sees(tmp_path, kind, validation):
    save = Save(tmp_path)
    module, _ = fit(kind, callbacks=[save], **VALIDATIONS[validation])
    validated = iter(module.validated)
    newest = None
    for path in save.weights:
        saved = Module.load_from_checkpoint(path, kind=kind)
        if "on_train_batch_end" in path.name:
            newest = None
        elif "on_validation" in path.name:
            newest = newest or next(validated)
        # At the end of an epoch that was validated, and of the fit, it is that very state.
        if newest is not None:
            assert_same_state(weights_of(saved), newest)
        evaluated = Module(kind)
        quiet_trainer().validate(evaluated, data(), ckpt_path=path, verbose=False)
        assert_same_state(evaluated.validated[0], weights_of(saved))


@pytest.mark.parametrize("kind", MAKERS)
def test_after_the_fit_a_module_is_as_it_was_validated_and_a_longer_run_goes_on(tmp_path, kind):
    for validation in VALIDATIONS:
        short, trainer = fit(kind, epochs=2, **VALIDATIONS[validation])
        before = weights_of(short)
        trainer.save_checkpoint(tmp_path / "whole.ckpt")
        trainer.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
        assert_same_state(weights_of(short), before)
        trainer.test(short, data(), verbose=False)
        assert_same_state(short.validated[-1], before)
        for name in ("whole", "weights"):
            loaded = Module.load_from_checkpoint(tmp_path / f"{name}.ckpt", kind=kind)
            assert_same_state(weights_of(loaded), before)
        resumed, _ = fit(kind, tmp_path / "whole.ckpt", **VALIDATIONS[validation])
        assert_same_weights(resumed, fit(kind, **VALIDATIONS[validation])[0])


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_batch_end", "on_train_epoch_end"])
def test_a_fit_that_fails_leaves_the_weights_for_evaluation_and_can_be_saved(tmp_path, kind, hook):
    class Fail(Callback):
        def on_train_batch_end(self, trainer):
            self.fail(trainer, "on_train_batch_end")

        def on_validation_batch_end(self, trainer):
            self.fail(trainer, "on_validation_batch_end")

        def on_train_epoch_end(self, trainer):
            self.fail(trainer, "on_train_epoch_end")

        def fail(self, trainer, name):
            if name == hook and trainer.global_step >= BATCHES + 2:
                raise KeyError("stop")

    module = Module(kind)
    trainer = quiet_trainer(max_epochs=EPOCHS, callbacks=[Fail()], num_sanity_val_steps=0)
    with pytest.raises(KeyError):
        trainer.fit(module, data(), data()[:2])
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert_same_state(weights_of(Module.load_from_checkpoint(tmp_path / "a.ckpt", kind=kind)), weights_of(module))
    if hook != "on_train_epoch_end":  # which would be called again
        assert_same_weights(fit(kind, tmp_path / "a.ckpt")[0], fit(kind)[0])


@pytest.mark.parametrize("kind", ["adamw", "wrapped"])
def test_hooks_that_switch_too_change_nothing(tmp_path, kind):
    class Switching(Module):
        def on_train_epoch_start(self):
            self.optimizers().train()

        def on_validation_epoch_start(self):
            self.optimizers().eval()

        def on_validation_epoch_end(self):
            self.optimizers().train()

    folder = {
        "enable_checkpointing": True,
        "callbacks": [ModelCheckpoint(tmp_path, monitor="val/loss", save_top_k=-1, filename="{epoch}")],
    }
    module, _ = fit(kind, module=Switching, **folder)
    weights, validated = by_hand(kind, "each epoch")
    for epoch, expected in enumerate(validated):
        saved = read_checkpoint(tmp_path / f"epoch={epoch}.ckpt")["state_dict"]
        for name, value in expected.items():
            torch.testing.assert_close(saved[name], value)
    for name, value in weights.items():
        torch.testing.assert_close(module.state_dict()[name], value)


@pytest.mark.parametrize("kind", ["adamw", "wrapped"])
def test_a_save_hook_that_switches_is_undone(tmp_path, kind):
    class Switching(Module):
        def on_save_checkpoint(self, checkpoint):
            self.optimizers().eval()

    saving = [ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1)]
    module, _ = fit(kind, module=Switching, enable_checkpointing=True, callbacks=saving)
    for name, value in fit(kind)[0].state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("hook", ["on_before_backward", "on_after_backward", "on_before_zero_grad"])
def test_a_save_within_a_step_changes_nothing(tmp_path, kind, hook):
    def save(self, *arguments):
        if self.trainer.global_step == 5:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that a run does not go on exactly from there
                self.trainer.save_checkpoint(tmp_path / "a.ckpt")

    saving = type("Saving", (Module,), {hook: save})
    assert_same_weights(fit(kind, module=saving)[0], fit(kind)[0])
    assert (tmp_path / "a.ckpt").exists()


def test_a_save_is_no_update_of_manual_optimization(tmp_path):
    class Manual(Module):
        automatic_optimization = False

        def __init__(self, kind="sgd"):
            super().__init__(kind)
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.trainer.optimizers[0]  # past the wrapper, so that updates are found by what changes
            if batch_idx == 1:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self.trainer.save_checkpoint(tmp_path / "a.ckpt")
                return
            self.manual_backward(self.loss(batch))
            optimizer.step()
            optimizer.zero_grad()

    _, trainer = fit("sgd", module=Manual, epochs=1)
    assert trainer.global_step == BATCHES - 1


@pytest.mark.parametrize("validation", VALIDATIONS)
@pytest.mark.parametrize("make", [AdamWScheduleFree, SGDScheduleFree])
def test_a_group_that_is_added_in_an_epoch_is_trained_from_its_first_batch(tmp_path, validation, make):
    class Growing(Module):
        def configure_optimizers(self):
            return make(self.network[2].parameters(), lr=0.05)

    class Add(Callback):
        def on_train_batch_start(self, trainer, module):
            if trainer.global_step == 2:
                trainer.optimizers[0].add_param_group({"params": module.network[0].parameters()})

    save = Save(tmp_path)
    module, _ = fit("adamw", module=Growing, callbacks=[Add(), save], **VALIDATIONS[validation])
    expected = Growing()
    optimizer = expected.configure_optimizers()
    step = 0
    for epoch in range(EPOCHS):
        for index, batch in enumerate(data()):
            if index == 0 or (validation == "within epochs" and index == BATCHES // 2):
                optimizer.train()
            if step == 2:
                optimizer.add_param_group({"params": expected.network[0].parameters(), "train_mode": True})
            expected.loss(batch).backward()
            optimizer.step()
            expected.zero_grad()
            step += 1
            is_last = index == BATCHES - 1
            is_due = {"each epoch": is_last, "within epochs": index % 2, "every second": is_last and epoch % 2}
            if is_due.get(validation):
                optimizer.eval()
    optimizer.eval()
    assert_same_state(weights_of(module), weights_of(expected))
    for path in save.weights:
        saved = read_checkpoint(path)
        assert all(
            group["train_mode"] == ("current_model_state" in saved)
            for group in saved["optimizer_states"][0]["param_groups"]
        )


def test_optimizers_without_modes_cost_nothing():
    modes = OptimizerModes([SGD([nn.Parameter(torch.zeros(1))], lr=0.1)])
    assert not modes
    given = {"weight": torch.zeros(1)}
    assert modes.weights(lambda: given) is given
    assert modes.training_state(lambda: given, list) == (None, [])
    assert not has_modes(SGD([nn.Parameter(torch.zeros(1))], lr=0.1))


def test_no_update_has_nothing_to_switch():
    class Fragile(SGD):
        def train(self):
            pass

        def eval(self):
            self.state[self.param_groups[0]["params"][0]]["mean"]  # as some packages do

    parameter = nn.Parameter(torch.zeros(1))
    modes = OptimizerModes([Fragile([parameter], lr=0.1)])
    modes.train()
    assert modes.weights(lambda: {"weight": parameter.detach()}) == {"weight": parameter}
    modes.eval()
    assert isinstance(modes, OptimizerModes) and issubclass(Fragile, Optimizer)


def test_manual_optimization_is_switched_as_well():
    class Manual(Module):
        def __init__(self, kind="adamw"):
            super().__init__(kind)
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            self.manual_backward(self.loss(batch))
            optimizer.step()
            optimizer.zero_grad()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module, _ = fit("sgd", module=Manual)
    weights, validated = by_hand("sgd", "each epoch")
    assert_same_state(weights_of(module), weights)
    assert_same_state(module.validated, validated)


def test_a_group_that_is_open_when_training_stops_behind_a_validation_is_trained():
    class Stop(Callback):
        def on_validation_end(self, trainer):
            trainer.should_stop = True

    module, trainer = fit("sgd", callbacks=[Stop()], accumulate_grad_batches=3, val_check_interval=2)
    assert trainer.global_step == 1
    expected = Module("sgd")
    optimizer = expected.configure_optimizers()
    optimizer.train()
    for batch in data()[:2]:
        (expected.loss(batch) / 2).backward()
    optimizer.step()
    optimizer.eval()
    torch.testing.assert_close(weights_of(module), weights_of(expected))
