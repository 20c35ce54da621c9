"""What a configuration can describe: partial calls, references, links, plugins with arguments, typed values."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, NamedTuple, NotRequired, TypedDict

import pytest
import torch
from torch import nn

import trainkit as tk
from trainkit.callbacks import EarlyStopping
from trainkit.config import build, from_config, read
from trainkit.errors import ConfigError, UnknownNameError
from trainkit.loggers import CSVLogger, TensorBoardLogger
from trainkit.precision.dtypes import MixedBFloat16

HERE = __name__
QUIET = {"enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu", "logger": False}


class Color(Enum):
    RED = "#f00"
    BLUE = 3


class Level(IntEnum):
    LOW = 1


@dataclass
class Head:
    width: int
    dropout: float = 0.0
    color: Color = Color.RED


@dataclass
class Heads:
    first: Head
    others: list[Head] = field(default_factory=list)


class Size(NamedTuple):
    height: int
    width: int = 1


class Options(TypedDict):
    rate: float
    name: NotRequired[str]


class Net(tk.TrainModule):
    class Nested:
        def __init__(self, width: int = 1) -> None:
            self.width = width

    def __init__(
        self,
        value: Any = None,
        *,
        head: Head | None = None,
        heads: Heads | None = None,
        size: Size | None = None,
        options: Options | None = None,
        color: Color | None = None,
        level: Level | None = None,
        day: datetime.date | None = None,
        at: datetime.datetime | None = None,
        wait: datetime.timedelta | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        shape: torch.Size | None = None,
        layer: type[nn.Module] | None = None,
        activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    ) -> None:
        super().__init__()
        self.given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.value = value

    @classmethod
    def from_pretrained(cls, name: str) -> Net:
        return cls(value=name)

    @classmethod
    def count(cls) -> int:
        return 3

    def training_step(self, batch: Any, batch_idx: int) -> Any: ...


class Data(tk.DataModule):
    made: list[str] = []  # noqa: RUF012

    def __init__(self, classes: int = 10, like: Any = None) -> None:
        super().__init__()
        self.num_classes = classes
        self.info = Size(2, 3)


class Fails:
    def __init__(self, width: int = 1) -> None:
        raise RuntimeError("no room")


def net(**arguments: Any) -> Net:
    _, module, _ = from_config({"module": {"_target_": f"{HERE}.Net", **arguments}, "trainer": QUIET})
    assert isinstance(module, Net)
    return module


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("head", {"width": 3}, Head(3)),
        ("head", {"width": 3, "dropout": 1, "color": "BLUE"}, Head(3, 1.0, Color.BLUE)),
        ("heads", {"first": {"width": 1}, "others": [{"width": 2}]}, Heads(Head(1), [Head(2)])),
        ("size", {"height": 2}, Size(2)),
        ("size", [2, 3], Size(2, 3)),
        ("options", {"rate": 1}, {"rate": 1.0}),
        ("options", {"rate": 0.5, "name": "a"}, {"rate": 0.5, "name": "a"}),
        ("color", "RED", Color.RED),
        ("color", "#f00", Color.RED),
        ("color", 3, Color.BLUE),
        ("level", 1, Level.LOW),
        ("level", "LOW", Level.LOW),
        ("day", "2026-11-28", datetime.date(2026, 11, 28)),
        ("at", "2026-11-28T10:00", datetime.datetime(2026, 11, 28, 10)),
        ("wait", "90 min", datetime.timedelta(minutes=90)),
        ("wait", 90, datetime.timedelta(seconds=90)),
        ("wait", {"hours": 2}, datetime.timedelta(hours=2)),
        ("dtype", "bfloat16", torch.bfloat16),
        ("dtype", "torch.float64", torch.float64),
        ("device", "cpu", torch.device("cpu")),
        ("shape", [3, 4], torch.Size([3, 4])),
        ("layer", "torch.nn.GELU", nn.GELU),
        ("activation", "torch.relu", torch.relu),
        ("value", {"_ref_": "torch.nn.functional.gelu"}, nn.functional.gelu),
        ("value", {"_ref_": f"{HERE}.Net.Nested"}, Net.Nested),
        ("value", [{"_ref_": "math.pi"}], [3.141592653589793]),
    ],
)
def test_a_plain_value_becomes_what_the_annotation_asks_for(name: str, value: Any, expected: Any) -> None:
    given = net(**{name: value}).given[name]
    assert given == expected and type(given) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("head", {"width": 3, "droput": 1}, "unknown argument of Head 'droput'.*module.head.droput.*mean 'dropout'"),
        ("head", {}, "module.head lacks 'width', which Head needs"),
        ("heads", {"first": {"width": "wide"}}, "module.heads.first.width='wide' is not usable.*width: int"),
        ("size", [1, 2, 3], "module.size=.* is not usable"),
        ("options", {"name": "a"}, "module.options=.* is not usable"),
        ("color", "GREEN", "module.color='GREEN' is not usable.*one of RED, BLUE, says Net"),
        ("level", True, "module.level=True is not usable.*one of LOW"),
        ("day", "tomorrow", "module.day='tomorrow' is not usable"),
        ("wait", "90 mni", "module.wait='90 mni' is not usable"),
        ("dtype", "float23", "module.dtype='float23' is not usable"),
        ("layer", "torch.nn.GEUL", "unknown name in torch.nn 'GEUL'.*module.layer.*mean 'GELU'"),
        ("layer", "torch.optim.Adam", "torch.optim.Adam is <class.*a subclass of Module"),
        ("layer", "GELU", "module.layer='GELU' is not usable"),
        ("activation", "torch.nm.relu", "no module 'torch.nm'"),
        ("activation", "tocrh.relu", "no module 'tocrh'.*did you mean 'torch'"),
        ("value", {"_ref_": "torch.nn.Nothing"}, "unknown name in torch.nn 'Nothing'.*module.value._ref_"),
        ("value", {"_ref_": "a.b", "c": 1}, "module.value._ref_ has to stand alone"),
        ("value", {"_traget_": "torch.nn.GELU"}, "unknown key '_traget_'.*module.value._traget_.*mean '_target_'"),
        ("value", {"target_": "torch.nn.GELU"}, "unknown key 'target_'.*mean '_target_'"),
        ("value", {"_args_": [1]}, "module.value._args_ has to stand beside a _target_"),
        ("value", {"_target_": "torch.nn.GELU", "_args_": 3}, "module.value._args_=3 is not usable.*a list"),
        ("value", {"_target_": "torch.nn.GELU", "_partial_": 1}, "_partial_=1 is not usable.*true, false"),
        ("value", {"_target_": f"{HERE}.Size", "_args_": [1], "height": 2}, "module.value gives 'height' twice"),
        ("value", {"_target_": f"{HERE}.Size", "_args_": ["a"]}, "module.value._args_.0.='a' is not usable|_args_"),
    ],
)
def test_what_does_not_fit_is_named_with_its_key(name: str, value: Any, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        net(**{name: value})
    text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert re.search(told, text, re.DOTALL), text


def test_an_optimizer_comes_from_the_file() -> None:
    module = net(optimizer={"_target_": "torch.optim.SGD", "_partial_": True, "lr": 1, "momentum": 0.9})
    optimizer = module.given["optimizer"]([nn.Parameter(torch.zeros(2))])
    assert isinstance(optimizer, torch.optim.SGD)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (1, 0.9)
    with pytest.raises(UnknownNameError, match="unknown argument of SGD 'momentun'"):
        net(optimizer={"_target_": "torch.optim.SGD", "_partial_": True, "momentun": 1})


def test_arguments_may_be_given_by_position() -> None:
    linear = net(value={"_target_": "torch.nn.Linear", "_args_": [3, 4], "bias": False}).value
    assert (linear.in_features, linear.out_features, linear.bias) == (3, 4, None)
    layers = net(value={"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.nn.ReLU"}]}).value
    assert isinstance(layers[0], nn.ReLU)


def test_class_methods_and_nested_classes_are_targets() -> None:
    config = {"module": {"_target_": f"{HERE}.Net.from_pretrained", "name": "small"}, "trainer": QUIET}
    _, module, _ = from_config(config)
    assert isinstance(module, Net) and module.value == "small"
    assert net(value={"_target_": f"{HERE}.Net.Nested", "width": 3}).value.width == 3
    with pytest.raises(ConfigError, match=r"(?s)Net.count has returned a int.*a subclass of TrainModule"):
        from_config({"module": {"_target_": f"{HERE}.Net.count"}, "trainer": QUIET})
    with pytest.raises(UnknownNameError, match=r"(?s)unknown name in Net 'Nestde'"):
        net(value={"_target_": f"{HERE}.Net.Nestde.deeper"})


def test_a_link_takes_what_another_section_has_come_to() -> None:
    config = {
        "module": {"_target_": f"{HERE}.Net", "value": {"classes": {"_link_": "data.num_classes"}}},
        "data": {"_target_": f"{HERE}.Data", "classes": 7},
        "trainer": QUIET | {"max_epochs": 3},
    }
    assert build(read(config)).module.value == {"classes": 7}  # type: ignore[comparison-overlap]
    config["module"]["value"] = [{"_link_": "data.info.width"}, {"_link_": "trainer.max_epochs"}]
    assert build(read(config)).module.value == [3, 3]  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("link", "data", "told"),
    [
        ("data.num_clases", {}, "unknown attribute of Data 'num_clases'.*module.value._link_.*mean 'num_classes'"),
        ("dat.num_classes", {}, "an attribute of a section, such as data.num_classes"),
        ("data", {}, "an attribute of a section"),
        ("module.value", {}, "leads back to where it is: module > module"),
        ("data.num_classes", {"like": {"_link_": "module.value"}}, "leads back to where it is: module > data > module"),
        ("data.num_classes", None, "there is no section 'data'"),
    ],
)
def test_a_link_that_leads_nowhere_is_refused(link: str, data: Any, told: str) -> None:
    config = {"module": {"_target_": f"{HERE}.Net", "value": {"_link_": link}}, "trainer": QUIET}
    if data is not None:
        config["data"] = {"_target_": f"{HERE}.Data", **data}
    with pytest.raises(ConfigError, match=f"(?s){told}"):
        build(read(config))


def test_plugins_of_all_kinds_have_names_and_arguments() -> None:
    arguments = QUIET | {
        "strategy": {"use": "single"},
        "precision": {"use": "bf16-mixed"},
        "logger": [{"use": "csv", "name": "mine"}, {"use": "tensorboard"}],
    }
    trainer, _, _ = from_config({"module": {"_target_": f"{HERE}.Net"}, "trainer": arguments})
    assert isinstance(trainer.precision, MixedBFloat16)
    assert trainer.strategy.name == "single"
    assert [type(logger) for logger in trainer.loggers] == [CSVLogger, TensorBoardLogger]
    assert trainer.loggers[0].name == "mine"
    for wrong, told in (
        ({"strategy": {"use": "dpp"}}, "unknown strategy 'dpp'.*config|mapping"),
        ({"logger": {"use": "csv", "nmae": "a"}}, "unknown argument of CSVLogger 'nmae'.*mean 'name'"),
    ):
        with pytest.raises(ConfigError, match=f"(?s){told}"):
            from_config({"module": {"_target_": f"{HERE}.Net"}, "trainer": QUIET | wrong})


def test_callbacks_may_be_a_list() -> None:
    callbacks = ["timer", {"use": "early_stopping", "monitor": "a"}, {"use": "early_stopping", "monitor": "b"}]
    trainer, _, _ = from_config({"module": {"_target_": f"{HERE}.Net"}, "trainer": QUIET, "callbacks": callbacks})
    assert [each.monitor for each in trainer.callbacks if isinstance(each, EarlyStopping)] == ["a", "b"]
    with pytest.raises(ConfigError, match=r"callbacks.1.monitro|callbacks\[1\]"):
        wrong = ["timer", {"use": "early_stopping", "monitro": "a"}]
        from_config({"module": {"_target_": f"{HERE}.Net"}, "trainer": QUIET, "callbacks": wrong})


def test_what_a_class_raises_names_the_key() -> None:
    with pytest.raises(RuntimeError, match="no room") as caught:
        net(value={"_target_": f"{HERE}.Fails"})
    assert "    in           (mapping): module.value" in caught.value.__notes__


def test_values_of_the_shared_section_are_read_by_nobody_else() -> None:
    config = read({"shared": {"width": 3, "any": ["thing"]}, "module": {"_target_": "a.B", "width": "${shared.width}"}})
    assert config.module["width"] == 3
    assert "shared" in config.to_yaml()


def test_what_is_kept_describes_the_same(tmp_path: Any) -> None:
    sections = {
        "shared": {"width": 3},
        "module": {"_target_": f"{HERE}.Net", "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True}},
        "callbacks": ["timer"],
        "trainer": QUIET,
    }
    config = read(sections)
    (tmp_path / "again.yaml").write_text(config.to_yaml())
    assert read(tmp_path / "again.yaml").sections() == config.sections()


@pytest.mark.parametrize(
    ("written", "kinds"),
    [
        ("csv", [CSVLogger]),
        ("[csv, tensorboard]", [CSVLogger, TensorBoardLogger]),
        ("{use: csv, name: mine}", [CSVLogger]),
        ("[{use: csv, name: mine}, tensorboard]", [CSVLogger, TensorBoardLogger]),
    ],
)
def test_loggers_are_named(written: str, kinds: list[type], write_config: Callable[[str], str]) -> None:
    run = build(
        read(write_config(f"module: {{_target_: trainkit.testing.TinyModule}}\ntrainer: {{logger: {written}}}"))
    )
    assert [type(logger) for logger in run.trainer.loggers] == kinds
