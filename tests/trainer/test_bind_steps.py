from __future__ import annotations

import functools

import pytest

from trainkit import TrainModule
from trainkit.errors import ModuleError
from trainkit.strategies.single import SingleDevice
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.bind_steps import evaluation_step, positional_arguments, requires_more_than, training_step
from trainkit.types import Phase

STRATEGY = SingleDevice("cpu")
EVALUATIONS = [(Phase.VALIDATE, "validation_step"), (Phase.TEST, "test_step"), (Phase.PREDICT, "predict_step")]


class Bare(TrainModule):
    """Has no step of its own."""


def with_step(name, step):
    return type("Module", (Bare,), {name: step})()


# Assigned


@pytest.mark.parametrize(("phase", "name"), EVALUATIONS)
def test_a_step_that_is_assigned_is_called_and_one_that_is_none_is_not_there(phase, name):
    module = with_step(name, lambda self, batch: batch)
    setattr(module, name, functools.partial(lambda factor, batch, batch_idx: factor * batch, 2))
    assert evaluation_step(STRATEGY, module, phase, 1)(3, 0, 0) == 6
    setattr(module, name, None)
    if phase is Phase.PREDICT:
        module.forward = lambda batch: batch + 1
        assert evaluation_step(STRATEGY, module, phase, 1)(3, 0, 0) == 4
    else:
        with pytest.raises(ModuleError, match=f"Bare|Module has no {name}"):
            evaluation_step(STRATEGY, module, phase, 1)


@pytest.mark.parametrize("name", ["training_step", "validation_step"])
def test_an_assigned_function_that_waits_for_its_self_is_refused(name):
    module = Bare()
    setattr(module, name, lambda self, batch: batch)
    with pytest.raises(ModuleError, match="types.MethodType"):
        if name == "training_step":
            training_step(STRATEGY, module)
        else:
            evaluation_step(STRATEGY, module, Phase.VALIDATE, 1)


# Training


@pytest.mark.parametrize(
    ("step", "passed"),
    [
        (lambda self, batch: (batch,), ("b",)),
        (lambda self, batch, batch_idx: (batch, batch_idx), ("b", 7)),
        (lambda self, batch, other_name: (batch, other_name), ("b", 7)),
        (lambda self, batch, batch_idx, more=3: (batch, batch_idx, more), ("b", 7, 3)),
        (lambda self, *arguments: arguments, ("b", 7)),
        (lambda self, batch, **options: (batch, options), ("b", {})),
    ],
)
@pytest.mark.parametrize("alone", [False, True])
def test_a_training_step_gets_as_much_as_it_takes(step, passed, alone):
    assert training_step(STRATEGY, with_step("training_step", step), alone=alone)("b", 7) == passed


@pytest.mark.parametrize(
    "step",
    [
        lambda self: None,
        lambda self, batch, batch_idx, more: None,
        lambda self, batch, *, batch_idx: None,
    ],
)
def test_a_training_step_that_cannot_be_called_is_refused_with_its_signature(step):
    with pytest.raises(ModuleError, match=r"training_step\(.*\) cannot be called[\s\S]*\(self, batch, batch_idx\)"):
        training_step(STRATEGY, with_step("training_step", step))


def test_fit_needs_a_training_step():
    with pytest.raises(ModuleError, match="Bare has no training_step, which fit needs"):
        training_step(STRATEGY, Bare())


@pytest.mark.parametrize("alone", [True, False])
def test_ranks_wait_for_each_other_in_it_unless_it_is_alone(alone):
    class Asked(SingleDevice):
        def training_step(self, module):
            return lambda batch, batch_idx: "together"

        def training_step_alone(self, module):
            return lambda batch, batch_idx: "alone"

    step = training_step(Asked("cpu"), TinyModule(), alone=alone)
    assert step("b", 7) == ("alone" if alone else "together")


# Evaluation


@pytest.mark.parametrize(("phase", "name"), EVALUATIONS)
@pytest.mark.parametrize(
    ("step", "of_one", "of_two"),
    [
        (lambda self, *arguments: arguments, ("b", 7), ("b", 7, 1)),
        (lambda self, batch, batch_idx, dataloader_idx: dataloader_idx, 1, 1),
        (lambda self, batch, batch_idx, dataloader_idx="default": dataloader_idx, "default", 1),
    ],
)
def test_an_evaluation_step_is_told_of_the_loader_where_there_are_several(phase, name, step, of_one, of_two):
    module = with_step(name, step)
    assert evaluation_step(STRATEGY, module, phase, 1)("b", 7, 1) == of_one
    assert evaluation_step(STRATEGY, module, phase, 2)("b", 7, 1) == of_two


@pytest.mark.parametrize(("phase", "name"), EVALUATIONS)
@pytest.mark.parametrize(
    ("step", "passed"), [(lambda self, batch: "b", "b"), (lambda self, batch, batch_idx: (batch, batch_idx), ("b", 7))]
)
def test_an_evaluation_step_that_takes_no_loader_is_for_one_loader(phase, name, step, passed):
    module = with_step(name, step)
    assert evaluation_step(STRATEGY, module, phase, 1)("b", 7, 0) == passed
    with pytest.raises(ModuleError, match=rf"there are 2 loaders, so {name} needs a third argument"):
        evaluation_step(STRATEGY, module, phase, 2)


@pytest.mark.parametrize(("phase", "name"), EVALUATIONS)
def test_an_evaluation_step_that_cannot_be_called_is_refused(phase, name):
    for step in (lambda self: None, lambda self, a, b, c, d: None, lambda self, batch, *, batch_idx: None):
        with pytest.raises(ModuleError, match=rf"{name}\(.*\) cannot be called[\s\S]*batch_idx, dataloader_idx\)"):
            evaluation_step(STRATEGY, with_step(name, step), phase, 1)


@pytest.mark.parametrize(("phase", "name"), EVALUATIONS[:2])
def test_an_evaluation_needs_its_step(phase, name):
    with pytest.raises(ModuleError, match=rf"Bare has no {name}, which {phase} needs"):
        evaluation_step(STRATEGY, Bare(), phase, 1)


def test_a_prediction_is_what_the_module_returns_unless_it_has_a_step():
    class Doubles(Bare):
        def forward(self, batch):
            return 2 * batch

    assert evaluation_step(STRATEGY, Doubles(), Phase.PREDICT, 1)(4, 0, 0) == 8


# Signatures


def example(a, /, b, c=1, *, d, **rest):
    pass


def test_positional_arguments_are_counted_by_kind():
    assert positional_arguments(example) == ["a", "b", "c"]
    assert positional_arguments(lambda *arguments: None) is None
    assert positional_arguments(lambda: None) == []


@pytest.mark.parametrize(("number", "more"), [(0, True), (1, True), (2, False), (3, False)])
def test_arguments_with_a_default_are_not_required(number, more):
    assert requires_more_than(example, number) is more


@pytest.mark.parametrize(
    "step",
    [
        lambda self, batch_idx, batch: None,
        lambda batch, batch_idx: None,  # without self
        lambda self, batch, dataloader_idx: None,
        lambda self, dataloader_idx, batch: None,
    ],
)
def test_names_of_arguments_at_wrong_places_are_refused(step):
    module = type("Mine", (TinyModule,), {"validation_step": step})()
    with pytest.raises(ModuleError, match=r"at a wrong place(.|\n)*validation_step\(self, batch, batch_idx"):
        quiet_trainer().validate(module, TinyData(1))


def test_arguments_may_have_names_of_their_own():
    module = type("Mine", (TinyModule,), {"validation_step": lambda self, xy, number, dataloader_idx=0: None})()
    quiet_trainer().validate(module, TinyData(1))
