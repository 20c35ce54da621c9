from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from trainkit import DataModule, TrainModule
from trainkit.data import CombinedLoader, TensorLoader
from trainkit.errors import ModuleError
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.check_module import check_module
from trainkit.types import Stage


@pytest.mark.parametrize("stage", Stage)
def test_a_module_is_returned_as_it_is(stage):
    module = TinyModule()
    assert check_module(module, stage) is module


@pytest.mark.parametrize("stage", Stage)
def test_nothing_is_enough_only_where_there_was_a_module_before(stage):
    with pytest.raises(ModuleError, match=rf"trainer.{stage}\(\) needs a module the first time"):
        check_module(None, stage)


def test_a_class_is_no_object():
    with pytest.raises(ModuleError, match=r"given the class TinyModule. Did you mean TinyModule\(\)\?"):
        check_module(TinyModule, Stage.FIT)


@pytest.mark.parametrize(
    "wrong",
    [
        TinyData(1),
        DataLoader([1]),
        TensorLoader(torch.zeros(2)),
        CombinedLoader([DataLoader([1])]),
        DataModule(),
    ],
    ids=lambda wrong: type(wrong).__name__,
)
def test_data_in_the_place_of_the_module_are_told_so(wrong):
    with pytest.raises(ModuleError, match=rf"a {type(wrong).__name__} as its module. The module comes first"):
        check_module(wrong, Stage.FIT)


@pytest.mark.parametrize(
    ("wrong", "kind"), [(torch.nn.Linear(1, 1), "a torch.nn.Module, but no TrainModule"), ("text", "no TrainModule")]
)
def test_something_else_is_told_what_it_is(wrong, kind):
    with pytest.raises(ModuleError, match=rf"given a {type(wrong).__name__}, which is {kind}. Subclass"):
        check_module(wrong, Stage.FIT)


class TrainsOnly(TrainModule):
    def training_step(self, batch, batch_idx):
        return None


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("validaton_step", "validation_step"),
        ("valdiation_step", "validation_step"),
        ("validation_Step", "validation_step"),
        ("tst_step", "test_step"),
        ("predit_step", "predict_step"),
        ("predcit_step", "predict_step"),
        ("teststep", "test_step"),
    ],
)
def test_a_method_that_is_almost_a_step_is_a_mistake(misspelt, meant):
    def step(self, batch, batch_idx): ...

    inherited = type("Misspelt", (type("Base", (TrainsOnly,), {misspelt: step}),), {})
    with pytest.raises(
        ModuleError, match=rf"Base.{misspelt} is named almost like {meant}, which Misspelt does not have"
    ):
        check_module(inherited(), Stage.FIT)


@pytest.mark.parametrize(
    "own",
    [
        "train_step",
        "val_step",
        "testing_step",
        "evaluation_step",
        "prediction_step",
        "latest_step",
        "_validaton_step",
        "step",
        "training_steps",
    ],
)
def test_methods_with_names_of_their_own_are_left_alone(own):
    def step(self, batch, batch_idx): ...

    module = type("Module", (TrainsOnly,), {own: step})()
    assert check_module(module, Stage.FIT) is module


def test_a_helper_of_a_step_that_is_there_may_have_any_name():
    class Helped(TrainsOnly):
        def validation_step(self, batch, batch_idx): ...

        def validations_step(self, batch): ...

    module = Helped()
    assert check_module(module, Stage.FIT) is module


def test_validation_data_without_a_validation_step_are_warned_of():
    class TrainsTiny(TinyModule):
        validation_step = TrainModule.validation_step

    with pytest.warns(UserWarning, match="TrainsTiny has no validation_step, so nothing is validated"):
        quiet_trainer(max_steps=1).fit(TrainsTiny(), TinyData(1), TinyData(1))
    # No warning, which the test run would take for an error.
    quiet_trainer(max_steps=1).fit(TrainsTiny(), TinyData(1))
    quiet_trainer(max_steps=1, limit_val_batches=0).fit(TrainsTiny(), TinyData(1), TinyData(1))


CALLED = (
    "training_step",
    "on_train_batch_end",
    "on_after_batch_transfer",
    "transfer_batch_to_device",
    "configure_optimizers",
    "on_validation_model_eval",
    "optimizer_step",
    "backward",
    "forward",
)


@pytest.mark.parametrize("name", CALLED)
def test_a_layer_under_the_name_of_a_method_is_refused(name):
    module = TinyModule()
    setattr(module, name, torch.nn.Linear(1, 1))
    with pytest.raises(
        ModuleError, match=rf"TinyModule.{name} was assigned a Linear.*another name, and write a method {name} that"
    ):
        check_module(module, Stage.FIT)


@pytest.mark.parametrize("name", ["log", "freeze", "double"])
def test_a_layer_under_the_name_of_a_method_that_the_loop_does_not_call_is_to_be_renamed(name):
    module = TinyModule()
    setattr(module, name, torch.nn.Linear(1, 1))
    with pytest.raises(ModuleError, match=rf"TinyModule.{name} was assigned a Linear.*another name\.$"):
        check_module(module, Stage.FIT)


def test_a_layer_with_a_name_of_its_own_is_left_alone():
    module = TinyModule()
    module.log_head = torch.nn.Linear(1, 1)
    assert check_module(module, Stage.FIT) is module


@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_a_compiled_module_is_told_of_the_argument(stage):
    with pytest.raises(
        ModuleError, match=r"torch\.compile\(module\)\. Give the module itself, and Trainer\(compile=True\)"
    ):
        check_module(torch.compile(TinyModule(), backend="eager"), stage)


def test_a_module_that_is_not_initialized_is_told_so():
    class Mine(TinyModule):
        def __init__(self):
            self.lr = 0.1

    with pytest.raises(ModuleError, match=r"Mine.__init__ has not called super\(\).__init__\(\)"):
        check_module(Mine(), "fit")
