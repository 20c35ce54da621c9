"""Methods that a user assigns to a module: a function in place of one, or None to do without it."""

from __future__ import annotations

import functools

import pytest
import torch

from trainkit import DataModule
from trainkit.testing import TinyData, TinyModule, assert_same_weights, quiet_trainer

DEFAULTS = [
    "backward",
    "configure_callbacks",
    "configure_gradient_clipping",
    "configure_model",
    "lr_scheduler_step",
    "on_before_batch_transfer",
    "on_train_start",
    "on_validation_model_eval",
    "on_validation_model_train",
    "optimizer_step",
    "optimizer_zero_grad",
    "prepare_data",
    "train_dataloader",
    "transfer_batch_to_device",
    "val_dataloader",
    "validation_step",
]


class Scheduled(TinyModule):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


def fitted(module, **arguments):
    trainer = quiet_trainer(max_epochs=2, gradient_clip_val=0.1, **arguments)
    trainer.fit(module, TinyData(3), TinyData(1))
    return module


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("where", ["class", "object"])
@pytest.mark.filterwarnings("ignore:there is validation data")
def test_what_is_set_to_none_is_as_if_it_were_not_overridden(name, where):
    module = type("Without", (Scheduled,), {name: None} if where == "class" else {})()
    if where == "object":
        setattr(module, name, None)
    assert_same_weights(fitted(module), fitted(Scheduled()))


@pytest.mark.parametrize("name", ["setup", "teardown", "prepare_data", "on_exception"])
def test_methods_of_a_data_module_may_be_none(name):
    class Data(DataModule):
        def train_dataloader(self):
            return TinyData(1)

    class Wrong(TinyModule):
        def training_step(self, batch, batch_idx):
            raise ZeroDivisionError

    data = Data()
    setattr(data, name, None)
    quiet_trainer(max_epochs=1).fit(TinyModule(), datamodule=data)
    with pytest.raises(ZeroDivisionError) as caught:
        quiet_trainer(max_epochs=1).fit(Wrong(), datamodule=data)
    assert not getattr(caught.value, "__notes__", [])


def test_hooks_and_steps_may_be_assigned():
    seen = []
    module = TinyModule()
    module.training_step = functools.partial(lambda factor, batch, batch_idx: factor * module.loss(batch), 2.0)
    module.on_train_batch_start = lambda batch: seen.append("start")
    module.on_train_batch_end = functools.partial(lambda tag, outputs: seen.append(tag), "end")
    # A module's `*args` is what Lightning passes: without the trainer and the module itself.
    module.on_validation_batch_end = lambda *args: seen.append(len(args))
    assert_same_weights(fitted(module), fitted(Twice()))
    assert seen == [*["start", "end"] * 3, 4] * 2


class Twice(TinyModule):
    def training_step(self, batch, batch_idx):
        return 2.0 * self.loss(batch)


def test_a_callbacks_args_take_the_rest():
    class Counts:
        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, trainer, module, *args):
            outputs, batch, batch_idx = args
            self.seen.append((sorted(outputs), len(batch), batch_idx))

        def on_train_start(self, *args):
            self.seen.append([type(each).__name__ for each in args])

    callback = Counts()
    quiet_trainer(max_epochs=1, callbacks=[callback]).fit(TinyModule(), TinyData(2))
    assert callback.seen == [["Trainer", "TinyModule"], (["loss"], 2, 0), (["loss"], 2, 1)]
