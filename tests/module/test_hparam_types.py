from __future__ import annotations

import enum
import functools
import random
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

import trainkit
import trainkit.callbacks
from trainkit.errors import CheckpointError
from trainkit.module.attribute_dict import AttributeDict
from trainkit.module.from_checkpoint import constructor_arguments
from trainkit.module.hparam_types import describe_enum, joined, restore, restore_enum
from trainkit.module.hparams import storable, store_hparams, warn_of_unstorable
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Keeps(trainkit.TrainModule):
    def __init__(self, value=None, other=1):
        super().__init__()
        self.save_hyperparameters()


class TakesOne(trainkit.TrainModule):
    def __init__(self, config, other=1):
        super().__init__()
        self.save_hyperparameters(config)


class Data(trainkit.DataModule):
    def __init__(self, value=None):
        super().__init__()
        self.save_hyperparameters()


def came_back(module, tmp_path):
    """The arguments with which ``module`` is built from the file that it was saved in."""
    checkpoint: dict[str, Any] = {}
    store_hparams(module, checkpoint)
    torch.save(checkpoint, tmp_path / "a.pt")
    return constructor_arguments(type(module), torch.load(tmp_path / "a.pt", weights_only=True), {})


def drawn(draw, depth=0):
    """A hyperparameter of containers in containers."""
    if depth == 3 or draw.random() < 0.25:
        return draw.choice([None, True, 3, -1.5, "text", (), [], {}, Path("a/b"), frozenset({1, "x"}), {2, 3}, 1j])
    items = [drawn(draw, depth + 1) for _ in range(draw.randint(0, 3))]
    named = dict(zip(["a", "b", "c"], items, strict=False))
    numbered = dict(zip([1, (2, "x"), "y"], items, strict=False))
    return draw.choice(
        [
            items,
            tuple(items),
            named,
            numbered,
            OrderedDict(numbered),
            AttributeDict(named),
            Namespace(**named),
            defaultdict(draw.choice([int, list, None, dict, str]), numbered),
            Counter(draw.choices("abc", k=4)),
        ]
    )


def same(one, other):
    """Whether two values are equal, with types, order and factories."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Namespace):
        return same(vars(one), vars(other))
    if isinstance(one, dict):
        factories = getattr(one, "default_factory", None), getattr(other, "default_factory", None)
        return factories[0] is factories[1] and same(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("seed", range(60))
def test_a_hyperparameter_comes_back_as_what_it_was(seed, tmp_path):
    value = drawn(random.Random(seed))
    for kind in (Keeps, Data):
        assert same(came_back(kind(value), tmp_path)["value"], value)


@pytest.mark.parametrize("seed", range(20))
def test_an_object_of_hyperparameters_comes_back_as_what_it_was(seed, tmp_path):
    draw = random.Random(seed)
    values = {"a": drawn(draw), "b": drawn(draw)}
    for config in (values, OrderedDict(values), Namespace(**values), AttributeDict(values), defaultdict(int, values)):
        assert same(came_back(TakesOne(config), tmp_path)["config"], config)


def test_plain_dicts_are_what_other_libraries_take(tmp_path):
    value = came_back(Keeps({"optimizer": {"lr": 0.1}}), tmp_path)["value"]
    assert yaml.safe_load(yaml.safe_dump(value)) == value
    assert torch.utils._pytree.tree_leaves(value) == [0.1]


@pytest.mark.parametrize("value", [OmegaConf.create({"a": [{"b": 1}]}), MappingProxyType({"a": (AttributeDict(b=1),)})])
def test_any_other_mapping_can_be_read_by_attribute(value, tmp_path):
    assert came_back(Keeps(value), tmp_path)["value"].a[0].b == 1


def test_files_that_do_not_tell_give_what_can_be_read_by_attribute():
    checkpoint = {"hyper_parameters": {"value": {"a": [{"b": (1, {"c": 2})}]}}}
    value = constructor_arguments(Keeps, checkpoint, {})["value"]
    assert value.a[0].b[1].c == 2


def test_a_value_that_was_edited_stays_as_it_is():
    described = {"type": "OrderedDict", "items": {"a": {"type": "Path"}, "b": {"items": {3: {"type": "frozenset"}}}}}
    assert same(restore({"a": 3, "b": [1], "c": {}}, described), OrderedDict(a=3, b=[1], c={}))
    assert restore("x", described) == "x"
    assert restore({"a": 1}, {"type": "os.system"}) == {"a": 1}


# Enums


class Mode(enum.Enum):
    FAST = 1
    SLOW = 2


class Level(enum.IntEnum):
    LOW = 0  # false, and no None


class Flags(enum.Flag):
    A = enum.auto()
    B = enum.auto()


class Other:
    class Mode(enum.Enum):
        FAST = 1


class TakesEnums(trainkit.TrainModule):
    def __init__(self, mode: Mode | None, level: list[Level] | Level = Level.LOW, by_default=Mode.SLOW, flags=Flags.A):
        super().__init__()
        self.save_hyperparameters()


class TakesMore(TakesEnums):
    def __init__(self, unknown: Undefined = 1, **rest) -> None:  # noqa: F821
        super().__init__(**rest)


@pytest.mark.parametrize("mode", [*Mode, None])
def test_enums_that_the_constructor_names_come_back(mode, tmp_path):
    arguments = came_back(TakesEnums(mode, by_default=Mode.FAST, flags=Flags.B), tmp_path)
    assert arguments == {"mode": mode, "level": Level.LOW, "by_default": Mode.FAST, "flags": Flags.B}
    assert type(arguments["level"]) is Level


def test_enums_of_a_parent_come_back(tmp_path):
    assert came_back(TakesMore(mode=Mode.SLOW), tmp_path)["mode"] is Mode.SLOW


def test_enums_that_are_kept_are_not_warned_of():
    warn_of_unstorable(TakesEnums(Mode.FAST))


def test_what_a_configuration_has_made_in_part_is_no_reason_to_warn_and_is_demanded(tmp_path):
    value = functools.partial(torch.optim.SGD, lr=0.1)
    warn_of_unstorable(Keeps(value))
    with pytest.raises(CheckpointError, match="does not hold: value"):
        came_back(Keeps(value), tmp_path)
    with pytest.warns(UserWarning, match=r"other=\.\.\."):
        warn_of_unstorable(Keeps(value, other=torch.nn.ReLU()))


@pytest.mark.parametrize("value", [Mode.FAST, [Mode.FAST], Other.Mode.FAST])
def test_an_enum_that_nobody_names_is_demanded(value, tmp_path):
    with pytest.warns(UserWarning, match=r"value=\.\.\."):
        warn_of_unstorable(Keeps(value))
    with pytest.raises(CheckpointError, match="does not hold: value"):
        came_back(Keeps(value), tmp_path)


def test_an_enum_is_told_apart_from_another_and_demanded_when_it_is_gone():
    assert describe_enum(TakesEnums, "mode", Other.Mode.FAST) is None
    assert describe_enum(TakesEnums, "flags", Flags.A | Flags.B) is None
    assert restore_enum(TakesEnums, "mode", ["Mode", "FAST"]) is Mode.FAST
    assert restore_enum(TakesEnums, "mode", ["Mode", "GONE"]) is None
    assert restore_enum(TakesEnums, "mode", ["Other.Mode", "FAST"]) is None


@pytest.mark.parametrize("described", [[], ["Mode"], ["Mode", "FAST", "x"]])
def test_what_describes_no_member_of_an_enum_is_none(described):
    assert restore_enum(TakesEnums, "mode", described) is None


def test_a_namespace_has_names():
    assert restore({1: 2}, {"type": "Namespace"}) == {1: 2}


ACTING = [
    *("${oc.env:HOME}", "$HOME", "~", "%(HOME)s", "{0.__class__}", "{epoch}", "${now:%Y}", "`id`", "$(id)", "\x1b[2J"),
    *("!!python/object/apply:os.system [id]", "!!python/name:os.system", "&a [*a]", "file:///etc/passwd", "../x"),
]
"""What some program reads as more than text."""


class Trains(TinyModule):
    def __init__(self, value=None, other=None):
        super().__init__()
        self.save_hyperparameters()


def test_no_string_in_hyperparameters_acts(tmp_path):
    nested = {word: [word, {word: (word,)}] for word in ACTING}
    logger = trainkit.callbacks.CSVLogger(tmp_path)
    trainer = quiet_trainer(logger=logger, default_root_dir=tmp_path, max_steps=0)
    trainer.fit(Trains(ACTING, nested), TinyData(1))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Trains.load_from_checkpoint(tmp_path / "a.ckpt")
    assert (loaded.hparams["value"], loaded.hparams["other"]) == (ACTING, nested)
    read = Trains.load_from_checkpoint(tmp_path / "a.ckpt", hparams_file=f"{logger.log_dir}/hparams.yaml")
    assert read.hparams["value"] == ACTING
    assert list(read.hparams["other"]) == ACTING


def test_a_default_factory_that_is_a_function_is_not_lost_unsaid():
    assert storable({"value": defaultdict(lambda: 3)}) == ({}, ["value"])


def test_two_descriptions_say_together_what_each_does():
    one = {"type": "AttributeDict", "items": {"a": {"type": "Path"}, "b": {"items": {0: {"type": "Path"}}}}}
    other = {"items": {"a": {"type": "Counter"}, "b": {"items": {1: {"type": "frozenset"}}}, "c": {"type": "Path"}}}
    assert joined(one, other) == {
        "type": "AttributeDict",
        "items": {
            "a": {"type": "Counter"},
            "b": {"items": {0: {"type": "Path"}, 1: {"type": "frozenset"}}},
            "c": {"type": "Path"},
        },
    }
    assert joined({}, {}) == {}
    assert one["items"]["a"] == {"type": "Path"}, "they stay as they are"
