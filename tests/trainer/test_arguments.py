from __future__ import annotations

import dataclasses
import inspect
import math
import os
from dataclasses import fields, replace
from pathlib import Path

import pytest

from trainkit import Trainer
from trainkit.errors import ConfigError
from trainkit.testing import quiet_trainer
from trainkit.trainer.arguments import (
    DataArguments,
    OptimizationArguments,
    OutputArguments,
    StopArguments,
    TrainerArguments,
    given,
    refuse_beside_barebones,
)

GROUPS = {
    "stop": StopArguments,
    "data": DataArguments,
    "optimization": OptimizationArguments,
    "output": OutputArguments,
}

PARTS = {"accelerator", "strategy", "devices", "num_nodes", "precision", "logger", "callbacks", "plugins", "profiler"}
"""Arguments of the Trainer that choose a part of it: that part is what remains of them."""


def arguments(**changed):
    return quiet_trainer(**changed).arguments


def test_the_groups_and_the_parts_are_the_arguments_of_the_trainer():
    parameters = inspect.signature(Trainer).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    in_groups = [field.name for group in GROUPS.values() for field in fields(group)]
    assert sorted([*in_groups, *PARTS]) == sorted(names)
    assert [(field.name, type(getattr(arguments(), field.name))) for field in fields(TrainerArguments)] == [
        *GROUPS.items()
    ]


@pytest.mark.parametrize("group", GROUPS.values())
def test_defaults_are_in_the_signature_of_the_trainer_and_nowhere_else(group):
    assert [field.name for field in fields(group) if field.default is not dataclasses.MISSING] == []


@pytest.mark.parametrize("group", GROUPS)
def test_what_was_given_cannot_be_changed(group):
    own = getattr(arguments(), group)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(own, fields(own)[0].name, 1)


@pytest.mark.parametrize(
    ("group", "changed", "message"),
    [
        ("stop", {"max_epochs": 2, "min_epochs": 3}, "min_epochs=3 is more than max_epochs=2"),
        ("stop", {"max_steps": 2, "min_steps": 3}, "min_steps=3 is more than max_steps=2"),
        ("data", {"limit_val_batches": 1.5}, "limit_val_batches=1.5"),
        ("optimization", {"accumulate_grad_batches": 0}, "accumulate_grad_batches=0"),
        ("output", {"print_schedule": "yes"}, "print_schedule='yes'"),
    ],
)
def test_each_group_checks_itself(group, changed, message):
    with pytest.raises(ConfigError, match=message):
        replace(getattr(arguments(), group), **changed)


@pytest.mark.parametrize(
    "changed",
    [{"max_epochs": -1, "min_epochs": 3}, {"max_epochs": None, "min_epochs": 3}, {"max_epochs": 3, "min_epochs": 3}],
)
def test_a_minimum_fits_below_no_limit_and_below_itself(changed):
    assert arguments(**changed).stop.min_epochs == 3


def test_an_interval_may_be_a_time():
    assert arguments(val_check_interval="00:01:00:00").data.val_check_interval == "00:01:00:00"
    with pytest.raises(ConfigError, match="val_check_interval='soon'"):
        arguments(val_check_interval="soon")


def test_batches_across_epochs_are_counted_and_no_share_of_one():
    assert arguments(check_val_every_n_epoch=None, val_check_interval=7).data.check_val_every_n_epoch is None
    with pytest.raises(ConfigError, match="check_val_every_n_epoch=None counts batches"):
        arguments(check_val_every_n_epoch=None, val_check_interval=0.5)


# How much of the data


@pytest.mark.parametrize(
    ("changed", "limits"),
    [
        ({}, {"train": 1.0, "val": 1.0, "test": 1.0, "predict": 1.0}),
        ({"limit_val_batches": 3, "limit_test_batches": 0.5}, {"train": 1.0, "val": 3, "test": 0.5, "predict": 1.0}),
        ({"overfit_batches": 2, "limit_val_batches": 3}, {"train": 2, "val": 2, "test": 1.0, "predict": 1.0}),
        ({"fast_dev_run": True, "overfit_batches": 2}, {"train": 1, "val": 1, "test": 1, "predict": 1}),
        ({"fast_dev_run": 3, "limit_test_batches": 9}, {"train": 3, "val": 3, "test": 3, "predict": 3}),
    ],
)
def test_the_limit_of_a_loader(changed, limits):
    data = arguments(**changed).data
    assert {name: data.limit(name) for name in limits} == limits
    assert all(type(data.limit(name)) is type(limit) for name, limit in limits.items()), "1 is a batch, 1.0 is all"


@pytest.mark.parametrize(
    ("changed", "at_most", "of_five", "of_unknown"),
    [
        ({"num_sanity_val_steps": 2}, 2, 2, 2),
        ({"num_sanity_val_steps": 9}, 9, 5, 9),
        ({"num_sanity_val_steps": -1}, math.inf, 5, 1.0),
        ({"num_sanity_val_steps": 0}, 0, 0, 0),
        ({"num_sanity_val_steps": 2, "fast_dev_run": True}, 0, 0, 0),
        ({"num_sanity_val_steps": -1, "overfit_batches": 1}, 0, 0, 0),
    ],
)
def test_the_limit_of_a_sanity_check(changed, at_most, of_five, of_unknown):
    data = arguments(**changed).data
    assert data.sanity_batches == at_most
    assert data.sanity_limit(5) == of_five
    assert (data.sanity_limit(None), type(data.sanity_limit(None))) == (of_unknown, type(of_unknown))


# How gradients become updates


@pytest.mark.parametrize(
    ("given", "schedule", "splits"),
    [
        (1, {0: 1}, False),
        (4, {0: 4}, False),
        ({3: 2}, {0: 1, 3: 2}, False),
        ({0: 8}, {0: 8}, False),
        ("auto", {0: 1}, True),
    ],
)
def test_the_schedule_of_accumulation_begins_at_epoch_0(given, schedule, splits):
    optimization = arguments(accumulate_grad_batches=given).optimization
    assert optimization.accumulation == schedule
    assert optimization.splits_batches is splits


@pytest.mark.parametrize(("given", "compiles"), [(False, False), (True, False), ("step", True), ("cuda-graph", True)])
def test_a_whole_step_is_compiled_for_two_of_the_choices(given, compiles):
    assert arguments(compile=given).optimization.compiles_step is compiles


# What is written


def test_the_root_is_the_folder_that_was_given_or_the_current_one(tmp_path, monkeypatch):
    assert arguments(default_root_dir=tmp_path).output.root == str(tmp_path)
    assert arguments(default_root_dir="runs").output.root == "runs"
    output = arguments().output
    monkeypatch.chdir(tmp_path)
    assert Path(output.root) == Path(os.getcwd()) == tmp_path, "it is looked up when it is asked for"


def test_what_is_given_goes_before_the_default():
    assert given(None, 3) == 3
    assert given(0, 3) == 0
    assert given(False, True) is False


def test_beside_barebones_what_is_left_out_may_be_said_and_nothing_asked_for():
    refuse_beside_barebones(logger=False, profiler=None, log_every_n_steps=0)
    with pytest.raises(ConfigError, match="contradicts log_every_n_steps=5"):
        refuse_beside_barebones(logger=False, log_every_n_steps=5)


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_unit_and_a_number_of_epochs_contradict_each_other(epochs):
    with pytest.raises(ConfigError, match=f"val_check_interval='500 steps'.*check_val_every_n_epoch={epochs}"):
        quiet_trainer(val_check_interval="500 steps", check_val_every_n_epoch=epochs)
    # None says what a unit says: counted across epochs. Of a time in an older form the number is not asked.
    quiet_trainer(val_check_interval="500 steps", check_val_every_n_epoch=None)
    quiet_trainer(val_check_interval="00:01:00:00", check_val_every_n_epoch=epochs)


@pytest.mark.parametrize("name", ["val_check_interval", "log_every_n_steps"])
def test_a_wrong_unit_is_found_before_anything_is_started(name):
    with pytest.raises(ConfigError, match=f"Trainer: {name}='5 stesp'.*Did you mean '5 step'"):
        quiet_trainer(**{name: "5 stesp"})


@pytest.mark.parametrize(("given", "told"), [(0, 0), (5, 5), ("5 steps", 5), ("1k steps", 1000), ("2 min", "2 min")])
def test_rows_by_steps_are_told_as_a_number_however_they_were_given(given, told):
    assert quiet_trainer(log_every_n_steps=given).log_every_n_steps == told
