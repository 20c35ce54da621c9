"""Every argument of every built-in class, with values of all kinds: each is refused at once, or works in a run.

Nothing is listed but classes that need an argument: what an argument takes is read from its annotation.
"""

from __future__ import annotations

import inspect
import math
import random
import types
import typing
from collections.abc import Sequence
from contextlib import suppress

import pytest
import torch
from torch import nn

from trainkit import callbacks, data, loggers, strategies
from trainkit.errors import TrainkitError
from trainkit.testing import TinyModule, quiet_trainer
from trainkit.trainer import Trainer


class Writer(callbacks.PredictionWriter):
    def write_on_batch_end(self, *args):
        pass

    def write_on_epoch_end(self, *args):
        pass


NEEDED = {
    callbacks.EarlyStopping: {"monitor": "loss"},
    callbacks.GradientAccumulationScheduler: {"scheduling": {0: 1}},
    callbacks.StochasticWeightAveraging: {"swa_lrs": 0.1},
    data.CombinedLoader: {"iterables": [[torch.zeros(2, 4)]]},
}
VALUES = [
    *(0, 1, 2, -1, -7, 10**6, 0.5, 1.5, -0.5, math.nan, math.inf, -math.inf),
    *(True, False, None, "3", "no", "", b"x", [], [1], [math.nan], {}, {"a": 1}, {0: 0}, object(), 1j),
]


def classes():
    """Every class with a constructor of its own that the packages of built-ins name."""
    found = [getattr(package, name) for package in (callbacks, loggers, strategies, data) for name in package.__all__]
    found = [each for each in found if inspect.isclass(each) and "__init__" in vars(each)]
    made = dict.fromkeys(each for each in found if not inspect.isabstract(each))
    return [Trainer, *(Writer if each is callbacks.PredictionWriter else each for each in made)]


def arguments():
    """Each argument of each class, with the types that its annotation names."""
    for cls in classes():
        hints = typing.get_type_hints(cls.__init__, localns={"Never": typing.Never})
        for name, parameter in inspect.signature(cls.__init__).parameters.items():
            if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                yield pytest.param(cls, name, list(parts(hints[name])), id=f"{cls.__name__}-{name}")


def parts(annotation):
    """The members of a union, literals as they are."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from parts(member)
    else:
        yield annotation if origin in (typing.Literal, None) else origin


def fits(value, kinds):
    """Whether an annotation allows ``value``."""
    return any(fits_one(value, kind) for kind in kinds)


def fits_one(value, kind):
    if typing.get_origin(kind) is typing.Literal:
        return any(value is each or (type(value) is type(each) and value == each) for each in typing.get_args(kind))
    if kind is typing.Any or kind is object:
        return True
    if kind in (int, float):
        # NaN is no number.
        return type(value) in ((int,) if kind is int else (int, float)) and value == value
    if kind is bool:
        # 1 and 0 stand for True and False.
        return isinstance(value, int) and value in (0, 1)
    return isinstance(value, kind) and not (kind is Sequence and isinstance(value, str | bytes))


def make(cls, name, value):
    needed = {"max_epochs": 1} if cls is Trainer and name != "max_epochs" else NEEDED.get(cls, {})
    positional = [torch.zeros(6, 4)] if cls is data.TensorLoader else []
    if cls is data.ShardedIterable and name != "items":
        positional = [range(4)]
    return cls(*positional, **{**needed, name: value})


@pytest.mark.parametrize(("cls", "name", "kinds"), list(arguments()))
def test_what_an_annotation_does_not_allow_is_refused_at_once(cls, name, kinds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in VALUES:
        if name == "plugins" and not value:  # no options may be said in several ways
            make(cls, name, value)
        elif not fits(value, kinds):
            # The error names the argument.
            with pytest.raises(TrainkitError, match=name):
                make(cls, name, value)
        else:
            with suppress(TrainkitError):
                make(cls, name, value)


class Net(TinyModule):
    """Logs, validates, predicts, and has what every callback works on."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))

    def forward(self, x):
        return super().forward(self.backbone(x))

    def training_step(self, batch, batch_idx):
        loss = self(batch).square().mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self(batch).square().mean())

    def predict_step(self, batch, batch_idx):
        return self(batch)

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.01)


BATCHES = [torch.ones(2, 4), torch.zeros(2, 4), torch.ones(2, 4)]


def run(cls, name, value, folder):
    """Fit, and predict, with an object that was made with ``value``."""
    arguments = {"max_epochs": 2, "default_root_dir": folder, "enable_checkpointing": None, "enable_progress_bar": None}
    arguments["enable_model_summary"] = None
    train = BATCHES
    if cls is Trainer:
        arguments |= {name: value}
    elif issubclass(cls, strategies.Strategy):
        arguments["strategy"] = make(cls, name, value)
    elif issubclass(cls, loggers.Logger):
        arguments["logger"] = make(cls, name, value)
    elif issubclass(cls, callbacks.Callback):
        arguments["callbacks"] = [make(cls, name, value)]
    else:
        made = make(cls, name, value)
        train = [batch[0] for batch in made] if cls is data.TensorLoader else [batch for batch, _, _ in made]
    trainer = quiet_trainer(**arguments)
    module = Net()
    trainer.fit(module, train, BATCHES)
    trainer.predict(module, BATCHES)


# Devices of other kinds are not there, a metric of any name may be, and what data hold is not known before.
NOT_RUN = {
    "sampler",
    "iterables",
    "items",
    "monitor",
    "flops",
    "val_check_interval",
    "device",
    "devices",
    "max_time",
    "compile",
}
NOT_RUN |= {"process_group_backend", "accelerator"}


def allowed():
    for case in arguments():
        cls, name, kinds = case.values
        for index, value in enumerate(VALUES):
            endless = name in ("max_epochs", "max_steps") and value in (-1, 10**6)
            if fits(value, kinds) and name not in NOT_RUN and not endless:
                yield pytest.param(cls, name, value, id=f"{case.id}-{index}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("cls", "name", "value"), random.Random(0).sample(list(allowed()), 80))
def test_what_is_not_refused_at_once_works_in_a_run(cls, name, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        make(cls, name, value)
    except TrainkitError:
        return
    run(cls, name, value, tmp_path)
