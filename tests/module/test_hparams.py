from __future__ import annotations

import collections
import enum
import inspect
from argparse import Namespace
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import nn

from trainkit.callbacks import CSVLogger
from trainkit.data.module import DataModule
from trainkit.errors import ConfigError, UnknownNameError
from trainkit.module import TrainModule
from trainkit.module.hparams import AttributeDict, loggable_hparams, storable, store_hparams
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Keeps(TrainModule):
    """Saves its arguments as ``how`` says: the arguments and options of ``save_hyperparameters``."""

    def __init__(self, width, lr=0.1, *names, how=((), {}), depth=2, **more):
        super().__init__()
        args, options = how
        self.save_hyperparameters(*args, **{"ignore": "how", **options})


# What is kept


def test_all_arguments_are_kept_whether_positional_keyword_or_default():
    module = Keeps(3, 0.5, depth=4, extra="x")
    assert module.hparams == {"width": 3, "lr": 0.5, "depth": 4, "extra": "x"}
    assert module.hparams.width == module.hparams["width"] == 3


def test_ignored_arguments_are_left_out():
    assert Keeps(3, how=((), {"ignore": ["how", "lr", "depth"]})).hparams == {"width": 3}


def test_only_named_arguments_are_kept():
    assert Keeps(3, how=(("width", "depth"), {})).hparams == {"width": 3, "depth": 2}


def test_a_name_that_is_no_argument_is_an_error_with_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"(?s)'widht'.*Keeps.__init__.*did you mean 'width'"):
        Keeps(3, how=(("widht",), {}))


@dataclass
class Config:
    width: int = 3
    lr: float = 0.1


@pytest.mark.parametrize(
    "container",
    [{"width": 3, "lr": 0.1}, Namespace(width=3, lr=0.1), Config(), OmegaConf.create({"width": 3, "lr": 0.1})],
    ids=["dict", "Namespace", "dataclass", "OmegaConf"],
)
def test_a_container_is_kept_by_its_names(container):
    module = Keeps(1, how=((container,), {}))
    assert module.hparams == {"width": 3, "lr": 0.1}
    assert module.hparams.lr == 0.1


def test_interpolations_are_resolved():
    config = OmegaConf.create({"width": 3, "model": {"size": "${width}"}})
    assert Keeps(1, how=((config,), {})).hparams.model.size == 3


def test_an_empty_container_keeps_nothing():
    assert Keeps(1, how=(({},), {})).hparams == {}


@pytest.mark.parametrize("wrong", [3, [1, 2], Config, None])
def test_anything_else_is_an_error_that_says_what_is_allowed(wrong):
    with pytest.raises(ConfigError, match=r"(?s)save_hyperparameters.*Namespace"):
        Keeps(1, how=((wrong,), {}))


# Inheritance


class ParentSaves(TrainModule):
    def __init__(self, width, lr=0.1):
        super().__init__()
        self.save_hyperparameters()


class ChildPassesOn(ParentSaves):
    def __init__(self, scale, **rest):
        super().__init__(width=scale * 10, **rest)


class ChildSavesToo(ParentSaves):
    def __init__(self, scale, net, lr=1.0):
        super().__init__(scale, lr / 2)
        self.save_hyperparameters(ignore=["net"])


def test_a_parent_that_saves_keeps_the_arguments_of_the_subclass_too():
    assert ChildPassesOn(2, lr=0.5).hparams == {"scale": 2, "width": 20, "lr": 0.5}


def test_the_arguments_of_the_subclass_win_and_what_it_ignores_is_gone():
    assert ChildSavesToo(2, net=nn.Linear(1, 1)).hparams == {"scale": 2, "width": 2, "lr": 1.0}


def test_the_constructor_of_another_object_does_not_leak_in():
    class Owner:
        def __init__(self, secret):
            self.module = ParentSaves(4)

    assert Owner("s").module.hparams == {"width": 4, "lr": 0.1}


def test_decorators_and_helper_methods_do_not_hide_the_constructor():
    def decorated(init):
        @wraps(init)
        def wrapper(self, *args, **kwargs):
            return init(self, *args, **kwargs)

        return wrapper

    class Module(TrainModule):
        @decorated
        def __init__(self, width):
            super().__init__()
            self.remember()

        def remember(self):
            self.save_hyperparameters()

    assert Module(5).hparams == {"width": 5}


def test_a_dataclass_module_saves_its_fields():
    @dataclass(eq=False)
    class Module(TrainModule):
        width: int
        lr: float = 0.1

        def __post_init__(self):
            super().__init__()
            self.save_hyperparameters()

    assert Module(7).hparams == {"width": 7, "lr": 0.1}


def test_data_modules_save_hyperparameters_as_well():
    class Data(DataModule):
        def __init__(self, batch_size=4):
            super().__init__()
            self.save_hyperparameters()

    assert Data(8).hparams.batch_size == 8


# Afterwards


def test_hparams_can_be_changed_and_the_initial_ones_stay():
    module = Keeps(3, [1, 2])
    module.hparams.width = 9
    module.hparams.lr.append(3)
    assert module.hparams["width"] == 9
    assert module.hparams_initial.width == 3
    assert module.hparams_initial.lr == [1, 2]
    module.hparams_initial.width = 0
    assert module.hparams_initial.width == 3


def test_a_network_among_the_arguments_is_shared_not_copied():
    net = nn.Linear(1, 1)
    module = Keeps(net)
    assert module.hparams_initial.width is net
    assert list(module.children()) == []


def test_loggers_receive_them_unless_told_otherwise():
    assert loggable_hparams(Keeps(3)) == {"width": 3, "lr": 0.1, "depth": 2}
    assert loggable_hparams(Keeps(3, how=((), {"logger": False}))) == {}


def test_without_saving_there_are_none():
    assert TrainModule().hparams == {}
    assert TrainModule().hparams_initial == {}


# What a checkpoint can hold


class Colour(enum.StrEnum):
    RED = "red"


def named_function():
    pass


def test_what_loses_nothing_is_converted():
    kept, left_out = storable(
        {
            "namespace": Namespace(a=Namespace(b=1)),
            "path": Path("data") / "set",
            "config": OmegaConf.create({"layers": [1, 2]}),
            "numpy": [np.float32(0.5), np.int64(3), np.bool_(True)],
            "pair": (1, (2.0, None)),
            "attributes": AttributeDict(x=1),
            "bytes": b"salt",
            "large": 2**2000,
        }
    )
    assert left_out == []
    assert kept == {
        "namespace": {"a": {"b": 1}},
        "path": "data/set",
        "config": {"layers": [1, 2]},
        "numpy": [0.5, 3, True],
        "pair": (1, (2.0, None)),
        "attributes": {"x": 1},
        "bytes": b"salt",
        "large": 2**2000,
    }
    assert type(kept["attributes"]) is type(kept["config"]) is dict


@pytest.mark.parametrize(
    "value",
    [
        nn.Linear(1, 1),
        named_function,
        lambda: 0,
        nn.ReLU,
        Colour.RED,
        Config(),
        object(),
        b"",
        2**2040,
        collections.defaultdict(lambda: 0),
        np.zeros(2),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_what_cannot_be_stored_is_left_out_with_the_container_it_is_in(value):
    kept, left_out = storable({"bare": value, "inside": {"a": [1, value]}, "fine": 1})
    assert kept == {"fine": 1}
    assert left_out == ["bare", "inside"]


def test_a_fit_goes_on_without_a_number_that_no_checkpoint_holds(tmp_path):
    class Keyed(TinyModule):
        def __init__(self, modulus, salt):
            super().__init__()
            self.save_hyperparameters()

    trainer = quiet_trainer(max_epochs=1, default_root_dir=tmp_path, logger=CSVLogger(), enable_checkpointing=True)
    with pytest.warns(UserWarning, match="cannot hold these hyperparameters of Keyed.*: modulus"):
        trainer.fit(Keyed(2**2048, b"salt"), TinyData(1))
    checkpoint = torch.load(trainer.checkpoint_callback.best_model_path)
    assert checkpoint["hyper_parameters"].keys() == {*inspect.signature(TinyModule).parameters, "salt"}
    assert checkpoint["hyper_parameters"]["salt"] == b"salt"


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.builds(lambda value: Namespace(value=value), inner)
        | st.builds(Path, st.from_regex(r"[a-z]+", fullmatch=True))
        | st.just(nn.ReLU)
    ),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(), plain))
def test_whatever_is_kept_loads_with_weights_only(tmp_path_factory, hparams):
    kept, left_out = storable(hparams)
    assert set(kept) | set(left_out) == set(hparams)
    path = tmp_path_factory.mktemp("hparams") / "a.pt"
    torch.save(kept, path)
    assert torch.load(path, weights_only=True) == kept


def test_checkpoint_entries():
    checkpoint = {"trainkit": {"version": 1}}
    assert store_hparams(Keeps(3, nn.ReLU), checkpoint) == ["lr"]
    assert checkpoint == {
        "hyper_parameters": {"width": 3, "depth": 2},
        "hparams_name": "kwargs",
        "trainkit": {
            "version": 1,
            "hparams_left_out": ["lr"],
            "hparams_types": {"items": {}},
            "hparams_enums": {},
        },
    }
    empty = {}
    assert store_hparams(TrainModule(), empty) == []
    assert empty == {}
