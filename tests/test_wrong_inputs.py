"""Wrong inputs: each is an error of its own kind, whose message says what is wrong, what is allowed, and what to do."""

from __future__ import annotations

import copy
import datetime
import errno
import os
import pickle
import re

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, IterableDataset

import trainkit
from trainkit.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from trainkit.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointWriteError,
    ConfigError,
    DataError,
    DeviceError,
    HookError,
    MetricError,
    ModuleError,
    NotAttachedError,
    OptimizerError,
    PluginError,
    TrainkitError,
    UnknownArgumentError,
    UnknownNameError,
    UnsupportedError,
)
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def expect(error, builtin, *parts):
    """Expect an error that is also ``builtin`` and whose message holds all ``parts`` (patterns), in any order."""
    assert issubclass(error, TrainkitError)
    assert error is TrainkitError or issubclass(error, builtin)
    lookaheads = "".join(f"(?=.*(?:{part}))" for part in parts)
    return pytest.raises(error, match=f"(?si)^{lookaheads}", check=lambda raised: isinstance(raised, builtin))


# Arguments of the Trainer, one at a time

WRONG_ARGUMENTS = [
    # names
    ({"max_epoch": 3}, UnknownArgumentError, TypeError, ["max_epoch\\b", "did you mean 'max_epochs'"]),
    ({"gradient_clip": 1.0}, UnknownArgumentError, TypeError, ["gradient_clip\\b", "gradient_clip_"]),
    ({"precison": "bf16-mixed"}, UnknownArgumentError, TypeError, ["did you mean 'precision'"]),
    ({"gpus": 2}, UnknownArgumentError, TypeError, ["'gpus'"]),
    # words
    ({"precision": "bf16-mixd"}, UnknownNameError, ValueError, ["bf16-mixd", "did you mean 'bf16-mixed'", "64-true"]),
    ({"precision": 8}, ConfigError, ValueError, ["precision", "8", "bf16-mixed"]),
    ({"strategy": "dpp"}, UnknownNameError, ValueError, ["'dpp'", "did you mean 'd"]),
    ({"strategy": 3}, ConfigError, ValueError, ["strategy", "3", "ddp"]),
    ({"accelerator": "cpus"}, UnknownNameError, ValueError, ["'cpus'", "did you mean 'cpu'"]),
    ({"accelerator": "tpu"}, UnknownNameError, ValueError, ["'tpu'", "cuda"]),
    ({"gradient_clip_val": 1.0, "gradient_clip_algorithm": "nrom"}, UnknownNameError, ValueError, ["'nrom'", "'norm'"]),
    ({"profiler": "simpel"}, UnknownNameError, ValueError, ["did you mean 'simple'"]),
    ({"deterministic": "wran"}, ConfigError, ValueError, ["deterministic", "'wran'", "'warn'"]),
    ({"callbacks": "early_stoping"}, UnknownNameError, ValueError, ["did you mean 'early_stopping'"]),
    # types
    ({"max_epochs": 2.5}, ConfigError, ValueError, ["max_epochs=2.5", "whole number"]),
    ({"max_epochs": "3"}, ConfigError, ValueError, ["max_epochs='3'", "whole number"]),
    ({"max_epochs": True}, ConfigError, ValueError, ["max_epochs=True", "whole number"]),
    ({"max_steps": 1e3}, ConfigError, ValueError, ["max_steps=1000.0", "whole number"]),
    ({"min_epochs": "1"}, ConfigError, ValueError, ["min_epochs='1'"]),
    ({"log_every_n_steps": 0.5}, ConfigError, ValueError, ["log_every_n_steps=0.5"]),
    ({"accumulate_grad_batches": 2.0}, ConfigError, ValueError, ["accumulate_grad_batches=2.0", "whole number"]),
    ({"accumulate_grad_batches": {"4": 2}}, ConfigError, ValueError, ["accumulate_grad_batches", "'4'"]),
    ({"gradient_clip_val": "1"}, ConfigError, ValueError, ["gradient_clip_val='1'"]),
    ({"enable_checkpointing": "no"}, ConfigError, ValueError, ["enable_checkpointing='no'", "True or False"]),
    ({"inference_mode": "yes"}, ConfigError, ValueError, ["inference_mode='yes'", "True or False"]),
    ({"callbacks": [EarlyStopping]}, TrainkitError, Exception, ["EarlyStopping"]),
    ({"callbacks": [3]}, TrainkitError, Exception, ["3"]),
    ({"logger": "tensorbord"}, TrainkitError, Exception, ["tensorbord"]),
    ({"logger": [3]}, TrainkitError, Exception, ["logger", "3"]),
    ({"default_root_dir": 3}, ConfigError, ValueError, ["default_root_dir=3", "path"]),
    ({"max_time": 5}, ConfigError, ValueError, ["max_time=5", "DD:HH:MM:SS"]),
    ({"max_time": "1:30"}, ConfigError, ValueError, ["max_time='1:30'", "DD:HH:MM:SS"]),
    ({"max_time": {"hour": 1}}, ConfigError, ValueError, ["max_time", "hours"]),
    ({"devices": "two"}, ConfigError, ValueError, ["devices", "'two'"]),
    # values
    ({"max_epochs": -2}, ConfigError, ValueError, ["max_epochs=-2", "-1 means no limit"]),
    ({"max_steps": -5}, ConfigError, ValueError, ["max_steps=-5", "-1 means no limit"]),
    ({"accumulate_grad_batches": {}}, ConfigError, ValueError, ["accumulate_grad_batches={}", "{0: 1, 4: 2}"]),
    ({"accumulate_grad_batches": 0}, ConfigError, ValueError, ["accumulate_grad_batches=0", "at least 1"]),
    ({"gradient_clip_val": -1.0}, ConfigError, ValueError, ["gradient_clip_val=-1.0", "not negative"]),
    ({"limit_train_batches": 1.5}, ConfigError, ValueError, ["limit_train_batches=1.5", "0.0 to\\s+1.0"]),
    ({"limit_val_batches": -1}, ConfigError, ValueError, ["limit_val_batches=-1", "share"]),
    ({"limit_test_batches": "all"}, ConfigError, ValueError, ["limit_test_batches='all'", "share"]),
    ({"limit_train_batches": 10.0}, ConfigError, ValueError, ["=10.0", "mean limit_train_batches=10\\b"]),
    ({"overfit_batches": 1.1}, ConfigError, ValueError, ["overfit_batches=1.1"]),
    ({"val_check_interval": 1.5}, ConfigError, ValueError, ["val_check_interval=1.5"]),
    ({"val_check_interval": 0}, ConfigError, ValueError, ["val_check_interval=0", "limit_val_batches=0"]),
    ({"check_val_every_n_epoch": 0}, ConfigError, ValueError, ["check_val_every_n_epoch=0", "None"]),
    ({"num_sanity_val_steps": -2}, ConfigError, ValueError, ["num_sanity_val_steps=-2"]),
    ({"fast_dev_run": -1}, ConfigError, ValueError, ["fast_dev_run=-1"]),
    ({"log_every_n_steps": -1}, ConfigError, ValueError, ["log_every_n_steps=-1"]),
    ({"reload_dataloaders_every_n_epochs": -1}, ConfigError, ValueError, ["reload_dataloaders_every_n_epochs=-1"]),
    ({"devices": 0, "accelerator": "cpu"}, ConfigError, ValueError, ["devices=0"]),
    ({"num_nodes": 0}, ConfigError, ValueError, ["num_nodes=0"]),
    # combinations
    ({"max_epochs": 2, "min_epochs": 3}, ConfigError, ValueError, ["min_epochs=3", "max_epochs=2"]),
    ({"max_steps": 2, "min_steps": 3}, ConfigError, ValueError, ["min_steps=3", "max_steps=2"]),
    (
        {"check_val_every_n_epoch": None, "val_check_interval": 0.5},
        ConfigError,
        ValueError,
        ["check_val_every_n_epoch=None", "val_check_interval=0.5", "whole number"],
    ),
    (
        {"enable_checkpointing": False, "callbacks": [ModelCheckpoint()]},
        ConfigError,
        ValueError,
        ["enable_checkpointing=False", "ModelCheckpoint"],
    ),
    ({"barebones": True, "logger": True}, ConfigError, ValueError, ["barebones", "logger"]),
    ({"barebones": True, "enable_progress_bar": True}, ConfigError, ValueError, ["barebones", "enable_progress_bar"]),
    ({"plugins": {"tming": True}}, UnknownArgumentError, TypeError, ["'tming'", "'timing'"]),
    ({"plugins": ["ema"]}, ConfigError, ValueError, ["plugins=\\['ema'\\]", "'disable'", "callbacks="]),
    ({"plugins": {"disable": "MetricRows"}}, ConfigError, ValueError, ["'MetricRows'", "list of names"]),
    ({"plugins": {"disable": ["MetricRow"]}}, UnknownNameError, ValueError, ["did you mean 'MetricRows'"]),
    ({"benchmark": "yes"}, ConfigError, ValueError, ["benchmark='yes'"]),
]


@pytest.mark.parametrize(
    ("arguments", "error", "builtin", "parts"),
    WRONG_ARGUMENTS,
    ids=[", ".join(f"{name}={value!r}"[:40] for name, value in case[0].items()) for case in WRONG_ARGUMENTS],
)
def test_wrong_argument_of_the_trainer(arguments, error, builtin, parts):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 1}
    if "barebones" in arguments:
        quiet = {"max_epochs": 1}
    if "max_epoch" in arguments:
        del quiet["max_epochs"]
    with expect(error, builtin, *parts):
        trainkit.Trainer(**(quiet | arguments))


def test_trainer_takes_no_positional_arguments():
    with pytest.raises(TypeError):
        trainkit.Trainer(3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without CUDA")
@pytest.mark.parametrize("arguments", [{"accelerator": "cuda"}, {"accelerator": "gpu"}, {"strategy": "cuda:1"}])
def test_device_that_is_not_here(arguments):
    with expect(DeviceError, RuntimeError, "cuda"):
        trainer = trainkit.Trainer(**({"max_epochs": 1, "logger": False} | arguments))
        trainer.fit(TinyModule(), TinyData())


# Arguments of callbacks

WRONG_CALLBACKS = [
    (lambda: EarlyStopping("val/loss", mode="mni"), UnknownNameError, ValueError, ["'mni'", "min", "max"]),
    (lambda: EarlyStopping("val/loss", patience=-1), ConfigError, ValueError, ["patience=-1"]),
    (lambda: EarlyStopping("val/loss", patience=2.5), ConfigError, ValueError, ["patience=2.5"]),
    (lambda: ModelCheckpoint(monitor="val/loss", mode="lowest"), UnknownNameError, ValueError, ["'lowest'", "min"]),
    (lambda: ModelCheckpoint(save_top_k=-2), ConfigError, ValueError, ["save_top_k=-2", "-1"]),
    (lambda: ModelCheckpoint(save_top_k=3), ConfigError, ValueError, ["save_top_k=3", "monitor"]),
    (lambda: ModelCheckpoint(every_n_train_steps=-1), ConfigError, ValueError, ["every_n_train_steps=-1"]),
    (
        lambda: ModelCheckpoint(every_n_train_steps=2, every_n_epochs=2),
        ConfigError,
        ValueError,
        ["every_n_train_steps", "every_n_epochs"],
    ),
    (
        lambda: ModelCheckpoint(every_n_train_steps=2, train_time_interval=datetime.timedelta(hours=1)),
        ConfigError,
        ValueError,
        ["every_n_train_steps", "train_time_interval"],
    ),
    (lambda: LearningRateMonitor(logging_interval="batch"), UnknownNameError, ValueError, ["'batch'", "step", "epoch"]),
]


@pytest.mark.parametrize(("make", "error", "builtin", "parts"), WRONG_CALLBACKS, ids=range(len(WRONG_CALLBACKS)))
def test_wrong_argument_of_a_callback(make, error, builtin, parts):
    with expect(error, builtin, *parts):
        make()


# Plugins


class MisspeltHook(Callback):
    def on_train_batch_ned(self, trainer):
        """Was meant to be on_train_batch_end."""


class MisspeltArgument(Callback):
    def on_train_batch_end(self, output):
        """Was meant to be outputs."""


class UnknownArgument(Callback):
    def on_train_epoch_end(self, batch):
        """This hook has no batch."""


class AroundWithoutYield(Callback):
    def around_fit(self):
        """Is no generator."""


class TakesAnything(Callback):
    def on_train_batch_end(self, **kwargs):
        """Names nothing."""


class UnknownStage(Callback):
    stage = "observ"

    def on_train_end(self):
        """Is fine."""


WRONG_PLUGINS = [
    (MisspeltHook, HookError, TypeError, ["on_train_batch_ned", "did you mean 'on_train_batch_end'"]),
    (MisspeltArgument, HookError, TypeError, ["'output'", "did you mean 'outputs'", "batch_idx"]),
    (UnknownArgument, HookError, TypeError, ["on_train_epoch_end", "'batch'", "provided"]),
    (AroundWithoutYield, HookError, TypeError, ["around_fit", "yield"]),
    (TakesAnything, HookError, TypeError, ["kwargs"]),
    (UnknownStage, UnknownNameError, ValueError, ["'observ'", "did you mean 'observe'"]),
]


@pytest.mark.parametrize(("plugin", "error", "builtin", "parts"), WRONG_PLUGINS, ids=range(len(WRONG_PLUGINS)))
def test_wrong_plugin(plugin, error, builtin, parts):
    with expect(error, builtin, plugin.__name__ if plugin is not UnknownStage else "stage", *parts):
        quiet_trainer(callbacks=[plugin()])


def test_misspelt_hook_of_the_module():
    class Module(TinyModule):
        def on_train_epoch_ned(self):
            pass

    with expect(HookError, TypeError, "on_train_epoch_ned", "did you mean 'on_train_epoch_end'"):
        quiet_trainer().fit(Module(), TinyData())


def test_two_plugins_of_one_name():
    class Named(Callback):
        name = "twin"

        def __init__(self, key):
            self.key = key

        @property
        def state_key(self):
            return self.key

    with expect(PluginError, RuntimeError, "twin"):
        quiet_trainer(callbacks=[Named("a"), Named("b")])


# Modules


class NoTrainingStep(trainkit.TrainModule):
    def configure_optimizers(self):
        return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


class NoOptimizers(trainkit.TrainModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).sum()


class ForgotSuper(trainkit.TrainModule):
    def __init__(self):
        self.layer = torch.nn.Linear(4, 2)


class WantsMore(TinyModule):
    def training_step(self, batch, batch_idx, optimizer_idx):
        return self.loss(batch)


class WantsNothing(TinyModule):
    def training_step(self):
        return None


class WantsByName(TinyModule):
    def validation_step(self, batch, *, batch_idx):
        pass


def fit(module, *loaders, **arguments):
    quiet_trainer(**arguments).fit(module, *(loaders or (TinyData(),)))


WRONG_MODULES = [
    (lambda: fit(torch.nn.Linear(4, 2)), ModuleError, TypeError, ["Linear", "TrainModule"]),
    (lambda: fit(TinyModule), ModuleError, TypeError, ["TinyModule", "TinyModule\\(.*\\)"]),
    (lambda: fit(None), ModuleError, TypeError, ["module"]),
    (lambda: fit(3), ModuleError, TypeError, ["int", "TrainModule"]),
    (lambda: fit(TinyData(), TinyModule()), ModuleError, TypeError, ["TinyData", "module comes first: .*fit\\(module"]),
    (lambda: fit(WantsMore()), ModuleError, TypeError, ["optimizer_idx\\) cannot be called", "batch, batch_idx\\)"]),
    (lambda: fit(WantsNothing()), ModuleError, TypeError, ["training_step\\(\\) cannot be called"]),
    (lambda: fit(WantsByName(), TinyData(), TinyData()), ModuleError, TypeError, ["validation_step\\(batch, \\*, b"]),
    (lambda: copy.deepcopy(quiet_trainer()), UnsupportedError, Exception, ["copy or pickle of a Trainer"]),
    (lambda: pickle.dumps(quiet_trainer()), UnsupportedError, Exception, ["copy or pickle of a Trainer"]),
    (lambda: fit(NoTrainingStep()), ModuleError, TypeError, ["NoTrainingStep", "training_step"]),
    (lambda: fit(NoOptimizers()), ModuleError, TypeError, ["NoOptimizers", "configure_optimizers"]),
    (lambda: quiet_trainer().validate(NoOptimizers(), TinyData()), ModuleError, TypeError, ["validation_step"]),
    (lambda: quiet_trainer().test(NoOptimizers(), TinyData()), ModuleError, TypeError, ["test_step"]),
    (lambda: TinyModule().trainer, NotAttachedError, RuntimeError, ["TinyModule", "Trainer"]),
    (lambda: TinyModule().optimizers(), NotAttachedError, RuntimeError, ["TinyModule", "Trainer"]),
]


@pytest.mark.parametrize(("run", "error", "builtin", "parts"), WRONG_MODULES, ids=range(len(WRONG_MODULES)))
def test_wrong_module(run, error, builtin, parts):
    with expect(error, builtin, *parts):
        run()


def returning(value):
    """A module whose training step returns ``value(module, batch)``."""

    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            return value(self, batch)

    return Module()


WRONG_LOSSES = [
    (lambda module, batch: 3.0, ["float", "tensor"]),
    (lambda module, batch: "loss", ["str", "tensor"]),
    (lambda module, batch: [module.loss(batch)], ["list", "tensor"]),
    (lambda module, batch: {"lost": module.loss(batch)}, ["lost", "'loss'"]),
    (lambda module, batch: {"loss": None}, ["loss", "tensor"]),
    (lambda module, batch: module.loss(batch).detach(), ["require grad", "detach"]),
    (lambda module, batch: torch.tensor(1.0), ["require grad"]),
    (lambda module, batch: module(batch[0]), ["\\(3, 2\\)", "mean"]),
    (lambda module, batch: module(batch[0]).sum(0), ["\\(2,\\)", "one number"]),
]


@pytest.mark.parametrize(("value", "parts"), WRONG_LOSSES, ids=range(len(WRONG_LOSSES)))
def test_wrong_loss(value, parts):
    with expect(ModuleError, TypeError, "loss", *parts):
        fit(returning(value))


def test_manual_backward_with_automatic_optimization():
    def value(module, batch):
        module.manual_backward(module.loss(batch))

    with expect(ModuleError, TypeError, "manual_backward", "automatic_optimization = False"):
        fit(returning(value))


def test_step_of_an_optimizer_with_automatic_optimization():
    def value(module, batch):
        module.optimizers().step()

    with expect(OptimizerError, ValueError, "SGD.step\\(\\)", "automatic_optimization = False"):
        fit(returning(value))


# Optimizers and schedulers


def configured(configure):
    class Module(TinyModule):
        def configure_optimizers(self):
            return configure(self)

    return Module()


def sgd(module):
    return torch.optim.SGD(module.parameters(), lr=0.1)


def with_config(**config):
    def configure(module):
        optimizer = sgd(module)
        made = {key: value(optimizer) if callable(value) else value for key, value in config.items()}
        return {"optimizer": optimizer, "lr_scheduler": made}

    return configure


def step_lr(optimizer):
    return StepLR(optimizer, step_size=1)


WRONG_OPTIMIZERS = [
    (lambda module: 3, ["configure_optimizers", "int"]),
    (lambda module: "adam", ["configure_optimizers", "str"]),
    (lambda module: torch.optim.SGD, ["SGD"]),
    (lambda module: [sgd(module), 3], ["int"]),
    (lambda module: {"optimiser": sgd(module)}, ["'optimiser'", "'optimizer'"]),
    (lambda module: {"optimizer": sgd(module), "lr_schedular": None}, ["'lr_schedular'", "mean 'lr_scheduler'"]),
    (lambda module: [sgd(module), sgd(module)], ["2", "automatic_optimization = False"]),
    (with_config(scheduler=step_lr, interval="batch"), ["'batch'", "step", "epoch"]),
    (with_config(scheduler=step_lr, frequency=0), ["frequency", "0"]),
    (with_config(scheduler=step_lr, intervall="step"), ["'intervall'", "did you mean 'interval'"]),
    (with_config(interval="step"), ["'scheduler'"]),
    (with_config(scheduler=3), ["scheduler", "int"]),
    (with_config(scheduler=ReduceLROnPlateau), ["ReduceLROnPlateau", "monitor"]),
]


@pytest.mark.parametrize(("configure", "parts"), WRONG_OPTIMIZERS, ids=range(len(WRONG_OPTIMIZERS)))
def test_wrong_optimizers(configure, parts):
    # A misspelt key is an UnknownNameError, everything else an OptimizerError.
    with expect(TrainkitError, ValueError, *parts) as caught:
        fit(configured(configure))
    assert isinstance(caught.value, OptimizerError | UnknownNameError)


@pytest.mark.filterwarnings("ignore:epoch 0 has changed no weight")
def test_optimizer_of_parameters_that_are_not_of_the_module():
    def configure(module):
        optimizer = sgd(module)
        module.layer = torch.nn.Linear(4, 2)
        return optimizer

    with pytest.warns(UserWarning, match=r"2 of the 2 parameters of SGD are not among .*parameters\(\).*replaced"):
        fit(configured(configure))


# Data


class Misspelt(trainkit.DataModule):
    def train_dataloder(self):
        return TinyData()


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


class WillNotMove:
    def to(self, device):
        raise RuntimeError("bolted down")


class NeedsArguments:
    def to(self, device, colour):
        return self


WRONG_DATA = [
    (lambda: quiet_trainer().fit(TinyModule()), DataError, ValueError, ["train_dataloader"]),
    (lambda: quiet_trainer().validate(TinyModule()), DataError, ValueError, ["val_dataloader"]),
    (lambda: quiet_trainer().test(TinyModule()), DataError, ValueError, ["test_dataloader"]),
    (lambda: quiet_trainer().predict(TinyModule()), DataError, ValueError, ["predict_dataloader"]),
    (lambda: fit(TinyModule(), []), DataError, ValueError, ["train", "empty|no batch|0 batches"]),
    (lambda: fit(TinyModule(), DataLoader([])), DataError, ValueError, ["train", "empty|no batch|0 batches"]),
    (lambda: fit(TinyModule(), DataLoader(Stream())), DataError, ValueError, ["train", "empty|no batch|0 batches"]),
    (lambda: fit(TinyModule(), TinyData(), []), DataError, ValueError, ["val", "empty|no batch|0 batches"]),
    (lambda: fit(TinyModule(), torch.zeros(3).numpy()), DataError, ValueError, ["a ndarray", "TensorLoader"]),
    (
        lambda: quiet_trainer().fit(TinyModule(), datamodule=Misspelt()),
        DataError,
        ValueError,
        ["did you mean 'train_dataloader', where Misspelt has 'train_dataloder'"],
    ),
    (lambda: fit(TinyModule(), 3), DataError, ValueError, ["int", "iterable"]),
    (lambda: fit(TinyModule(), TinyData(), 3), DataError, ValueError, ["int", "iterable"]),
    (lambda: fit(TinyModule(), [DataLoader([1]), torch.zeros(1)]), DataError, ValueError, ["DataLoader", "Tensor"]),
    (lambda: fit(TinyModule(), [(WillNotMove(), 1)]), DataError, ValueError, ["WillNotMove", "bolted down"]),
    (lambda: fit(TinyModule(), [(NeedsArguments(), 1)]), DataError, ValueError, ["NeedsArguments", "to"]),
    (
        lambda: fit(TinyModule(), TinyData(5), TinyData(), val_check_interval=6),
        ConfigError,
        ValueError,
        ["val_check_interval=6", "5", "check_val_every_n_epoch=None"],
    ),
    (
        lambda: fit(TinyModule(), TinyData(5), limit_train_batches=0.1),
        TrainkitError,
        ValueError,
        ["limit_train_batches", "0.1"],
    ),
    (
        lambda: fit(TinyModule(), TinyData(5), TinyData(5), limit_val_batches=0.1),
        TrainkitError,
        ValueError,
        ["limit_val_batches", "0.1"],
    ),
    (lambda: quiet_trainer().fit(TinyModule(), datamodule=3), DataError, ValueError, ["datamodule", "DataModule"]),
    (
        lambda: quiet_trainer().fit(TinyModule(), TinyData(), datamodule=trainkit.DataModule()),
        TrainkitError,
        ValueError,
        ["datamodule", "train_dataloaders"],
    ),
    (
        lambda: quiet_trainer().validate(TinyModule(), [DataLoader([torch.zeros(1)])] * 2),
        ModuleError,
        TypeError,
        ["2", "dataloader_idx"],
    ),
]


@pytest.mark.parametrize(("run", "error", "builtin", "parts"), WRONG_DATA, ids=range(len(WRONG_DATA)))
def test_wrong_data(run, error, builtin, parts):
    with expect(error, builtin, *parts):
        run()


# Metrics


def plateau(module):
    optimizer = sgd(module)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "val/lss"}}


NEVER_LOGGED = {
    "early stopping": lambda: fit(TinyModule(), TinyData(), TinyData(), callbacks=[EarlyStopping("val/lss")]),
    "plateau": lambda: fit(configured(plateau), TinyData(), TinyData()),
}


@pytest.mark.parametrize("run", NEVER_LOGGED.values(), ids=NEVER_LOGGED)
def test_metric_that_was_never_logged(run):
    with expect(MetricError, ValueError, "'val/lss'", "val/loss"):
        run()


def test_metric_of_a_checkpoint_that_was_never_logged(tmp_path):
    checkpoint = ModelCheckpoint(dirpath=tmp_path, monitor="val/lss")
    with expect(MetricError, ValueError, "'val/lss'", "val/loss"):
        fit(TinyModule(), TinyData(), TinyData(), callbacks=[checkpoint], enable_checkpointing=True)


def logging(log):
    """A module that calls ``log(module, batch_idx)`` in its training step."""

    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            log(self, batch_idx)
            return self.loss(batch)

    return Module()


def log_with_other_options(module, batch_idx):
    module.log("a", 1.0, on_epoch=bool(batch_idx))


WRONG_LOGS = [
    (lambda module, batch_idx: module.log("a", torch.zeros(3)), ["'a'", "\\(3,\\)|3"]),
    (lambda module, batch_idx: module.log("a", "text"), ["'a'", "str"]),
    (lambda module, batch_idx: module.log("a", None), ["'a'", "None"]),
    (lambda module, batch_idx: module.log(3, 1.0), ["3", "str|name"]),
    (lambda module, batch_idx: module.log("a", 1.0, reduce_fx="maen"), ["'maen'", "did you mean 'mean'"]),
    (lambda module, batch_idx: module.log_dict([("a", 1.0)]), ["log_dict\\(\\)", "dict", "list"]),
    (log_with_other_options, ["'a'", "on_epoch"]),
]


@pytest.mark.parametrize(("log", "parts"), WRONG_LOGS, ids=range(len(WRONG_LOGS)))
def test_wrong_log(log, parts):
    with expect(TrainkitError, ValueError, *parts):
        fit(logging(log))


def test_value_that_goes_nowhere_is_a_warning():
    with pytest.warns(UserWarning, match=r"(?s)'a'.*on_step.*on_epoch"):
        fit(logging(lambda module, batch_idx: module.log("a", 1.0, on_step=False, on_epoch=False)))


def test_log_from_a_hook_without_a_metric_phase():
    class Module(TinyModule):
        def on_fit_start(self):
            self.log("a", 1.0)

    with expect(MetricError, ValueError, "'a'"):
        fit(Module())


# Checkpoints


@pytest.fixture
def saved(tmp_path):
    trainer = quiet_trainer()
    trainer.fit(TinyModule(), TinyData())
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    return tmp_path / "saved.ckpt"


def resume(path, module=None):
    quiet_trainer(max_epochs=3).fit(module or TinyModule(), TinyData(), ckpt_path=path)


def test_checkpoint_that_is_not_there(tmp_path):
    with expect(CheckpointNotFoundError, FileNotFoundError, "nowhere.ckpt"):
        resume(tmp_path / "nowhere.ckpt")


@pytest.mark.parametrize("ckpt_path", ["", 3, True])
def test_path_of_a_checkpoint_that_is_no_path(ckpt_path):
    with expect(ConfigError, ValueError, f"ckpt_path={ckpt_path!r}", "'best', or 'last'"):
        resume(ckpt_path)


def test_checkpoint_that_is_misspelt(saved):
    with expect(CheckpointNotFoundError, FileNotFoundError, "savd.ckpt", "did you mean +'saved.ckpt'"):
        resume(saved.with_name("savd.ckpt"))


def test_best_without_a_checkpoint_callback():
    with expect(CheckpointError, RuntimeError, "best", "ModelCheckpoint"):
        quiet_trainer().validate(TinyModule(), TinyData(), ckpt_path="best")


def test_best_before_anything_was_saved(tmp_path):
    trainer = quiet_trainer(enable_checkpointing=True, callbacks=[ModelCheckpoint(dirpath=tmp_path)])
    with expect(CheckpointError, RuntimeError, "best"):
        trainer.validate(TinyModule(), TinyData(), ckpt_path="best")


def test_checkpoint_of_another_model(saved):
    class Other(TinyModule):
        def __init__(self):
            super().__init__()
            self.head = self.layer
            del self.layer

    with expect(CheckpointError, RuntimeError, "saved.ckpt", "head", "layer"):
        resume(saved, Other())


def test_checkpoint_of_a_model_of_another_size(saved):
    with expect(CheckpointError, RuntimeError, "layer.weight", "4", "7"):
        quiet_trainer(max_epochs=3).fit(TinyModule(in_features=7), TinyData(in_features=7), ckpt_path=saved)


def test_checkpoint_with_other_optimizers(saved):
    def configure(module):
        return torch.optim.SGD([{"params": [module.layer.weight]}, {"params": [module.layer.bias]}], lr=0.1)

    with expect(CheckpointError, RuntimeError, "saved.ckpt", "SGD", "parameter groups"):
        resume(saved, configured(configure))


def test_checkpoint_from_behind_the_end_of_an_epoch_that_is_shorter_now(tmp_path):
    trainer = quiet_trainer(max_steps=3)
    trainer.fit(TinyModule(), TinyData(5))
    trainer.save_checkpoint(tmp_path / "mid.ckpt")
    with expect(
        CheckpointError, RuntimeError, "mid.ckpt", "behind 3 batches of epoch 0", "limit_train_batches", "3 now"
    ):
        quiet_trainer(limit_train_batches=3).fit(TinyModule(), TinyData(5), ckpt_path=tmp_path / "mid.ckpt")
    resumed = quiet_trainer(limit_train_batches=4)
    resumed.fit(TinyModule(), TinyData(5), ckpt_path=tmp_path / "mid.ckpt")
    assert (resumed.current_epoch, resumed.global_step) == (1, 4)


def test_truncated_checkpoint(saved):
    content = saved.read_bytes()
    saved.write_bytes(content[: len(content) // 2])
    with expect(CheckpointError, RuntimeError, "saved.ckpt"):
        resume(saved)


def test_checkpoint_with_damaged_bytes(saved):
    content = bytearray(saved.read_bytes())
    weight = torch.load(saved, weights_only=True)["state_dict"]["layer.weight"]
    at = content.index(weight.numpy().tobytes())
    content[at] ^= 1
    saved.write_bytes(bytes(content))
    with expect(CheckpointError, RuntimeError, "saved.ckpt"):
        resume(saved)


def test_file_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "notes.ckpt"
    path.write_text("not a checkpoint")
    with expect(CheckpointError, RuntimeError, "notes.ckpt"):
        resume(path)


def test_torch_file_that_is_no_checkpoint_of_a_run(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "weights.ckpt")
    with expect(CheckpointError, RuntimeError, "weights.ckpt", "state_dict"):
        resume(tmp_path / "weights.ckpt")


def test_weights_without_anything_around_them(tmp_path):
    torch.save(TinyModule().state_dict(), tmp_path / "weights.pt")
    with expect(CheckpointError, RuntimeError, "weights.pt", "no 'state_dict'", "layer.weight", "load_state_dict"):
        TinyModule.load_from_checkpoint(tmp_path / "weights.pt")


@pytest.mark.parametrize("path", ["", None, 3])
def test_place_to_save_that_is_no_path(path):
    trainer = quiet_trainer()
    trainer.fit(TinyModule(), TinyData(1))
    with expect(ConfigError, ValueError, re.escape(f"save_checkpoint({path!r})"), "needs a path"):
        trainer.save_checkpoint(path)


class Payload:
    """Would create a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path):
    torch.save({"state_dict": Payload(str(tmp_path / "ran"))}, tmp_path / "hostile.ckpt")
    with expect(CheckpointError, RuntimeError, "hostile.ckpt"):
        resume(tmp_path / "hostile.ckpt")
    assert not (tmp_path / "ran").exists()


def test_state_that_cannot_be_stored_safely_names_its_key(tmp_path):
    class Adds(Callback):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["mine"] = {"path": [tmp_path]}

    trainer = quiet_trainer(callbacks=[Adds()])
    trainer.fit(TinyModule(), TinyData())
    with expect(CheckpointError, RuntimeError, "mine", "Path"):
        trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_save_checkpoint_outside_a_run(tmp_path):
    with expect(NotAttachedError, RuntimeError, "save", "fit"):
        quiet_trainer().save_checkpoint(tmp_path / "a.ckpt")


# The disk


def test_folder_that_cannot_be_made_because_a_file_is_there(tmp_path):
    blocked = tmp_path / "taken"
    blocked.write_text("a file")
    checkpoint = ModelCheckpoint(dirpath=blocked / "checkpoints")
    with expect(CheckpointWriteError, OSError, "taken"):
        fit(TinyModule(), TinyData(), callbacks=[checkpoint], enable_checkpointing=True)


def test_default_root_dir_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "taken"
    blocked.write_text("a file")
    with pytest.raises(OSError, match="taken"):
        fit(TinyModule(), TinyData(), default_root_dir=blocked, enable_checkpointing=True, logger=True)


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_full_disk_names_the_path_and_leaves_older_checkpoints_alone(saved, monkeypatch, call):
    before = saved.read_bytes()
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(TinyModule(), TinyData())

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "write":
        fill_disk(monkeypatch)
    else:
        monkeypatch.setattr(os, call, full)
    with expect(CheckpointWriteError, OSError, "saved.ckpt", "No space left") as caught:
        trainer.save_checkpoint(saved)
    monkeypatch.undo()
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["saved.ckpt"]


def fill_disk(monkeypatch):
    """Let the file system take a hundred bytes more for each file that is opened for writing from now on."""
    import builtins
    import io

    real_open = builtins.open

    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > 100:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    def limited_open(file, mode="r", *args, **kwargs):
        if "b" in mode and any(letter in mode for letter in "wx+"):
            return Full(file, mode.replace("b", ""))
        return real_open(file, mode, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", limited_open)
    monkeypatch.setattr(os, "fdopen", lambda fd, mode="r", *args, **kwargs: Full(fd, mode.replace("b", "")))


def test_full_disk_during_a_run_ends_it(tmp_path, monkeypatch):
    class FillUp(Callback):
        def on_train_epoch_start(self, trainer):
            if trainer.current_epoch == 1:
                fill_disk(monkeypatch)

    checkpoint = ModelCheckpoint(dirpath=tmp_path, save_top_k=-1)
    trainer = quiet_trainer(max_epochs=3, callbacks=[FillUp(), checkpoint], enable_checkpointing=True)
    with expect(CheckpointWriteError, OSError, str(tmp_path), "No space left"):
        trainer.fit(TinyModule(), TinyData(2))
    monkeypatch.undo()
    assert trainer.global_step == 4
    (survivor,) = tmp_path.iterdir()
    assert torch.load(survivor, weights_only=True)["global_step"] == 2
