from __future__ import annotations

import textwrap
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import jsonschema
import pytest
import yaml

from tests.installed import Site
from trainkit.config import read
from trainkit.config.json_schema import json_schema, schema_of

CONFIG = """
    seed: 7
    module: {_target_: trainkit.testing.TinyModule, lr: 0.1}
    data: {_target_: trainkit.DataModule}
    trainer: {max_epochs: 2}
"""


class Color(Enum):
    RED = "#f00"


@dataclass
class Head:
    width: int


class Options(TypedDict):
    rate: float
    name: NotRequired[str]


@pytest.mark.parametrize(
    ("annotation", "right", "wrong"),
    [
        (int, [3], ["3", 1.5]),
        (float | None, [3, 0.5, None], ["a"]),
        (str, ["a"], [3]),
        (bool, [True], ["yes"]),
        (Literal["a", 3], ["a", 3], ["b"]),
        (Color, ["RED", "#f00"], ["BLUE"]),
        (list[int], [[1, "${shared.x}"]], [["a"], 3]),
        (tuple[int, ...], [[1, 2]], [3]),
        (dict[str, int], [{"a": 1}], [{"a": "b"}]),
        (Head, [{"width": 3}], [{}, {"widht": 3}, {"width": "wide"}]),
        (Options, [{"rate": 1}], [{"rate": "fast"}]),
        (Any, [1, "a", None], []),
    ],
)
def test_values_of_an_annotation(annotation: Any, right: list[Any], wrong: list[Any]) -> None:
    other = {"$defs": {"other": {"type": "string", "pattern": "[$][{]"}}}
    validator = jsonschema.Draft202012Validator(schema_of(annotation) | other)
    assert all(validator.is_valid(value) for value in right)
    assert not any(validator.is_valid(value) for value in wrong)


@pytest.fixture
def validator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> jsonschema.Draft202012Validator:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(textwrap.dedent(CONFIG))
    schema = json_schema(read("config.yaml"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(
    "change",
    [
        "seed: 7",
        "module: {_target_: trainkit.testing.TinyModule, lr: 1}",
        "module: {_target_: trainkit.testing.TinyModule, lr: '${shared.lr}'}",
        "module: {_target_: other.Module, anything: 3}",
        "module: {_target_: trainkit.testing.TinyModule, lr: {_link_: data.lr}}",
        "trainer: {max_epochs: 3, precision: {use: bf16-mixed}, logger: [{use: csv}], max_time: {hours: 2}}",
        "callbacks: {early_stopping: {monitor: val/loss}, mine: {_target_: a.B}, timer: null}",
        "callbacks: [timer]",
        "shared: {any: thing}",
        "plugins: {enable: []}",
        "plugins: {timing: true}",
        "trainer: {profiler: {use: torch, skip: 3}}",
    ],
)
def test_the_schema_accepts_what_is_right(validator: jsonschema.Draft202012Validator, change: str) -> None:
    base = yaml.safe_load(Path("config.yaml").read_text())
    validator.validate(base | yaml.safe_load(change))


@pytest.mark.parametrize(
    "change",
    [
        "seeed: 7",
        "seed: fast",
        "module: {_target_: trainkit.testing.TinyModule, lrr: 1}",
        "module: {_target_: trainkit.testing.TinyModule, lr: fast}",
        "trainer: {max_epoch: 3}",
        "trainer: {max_epochs: soon}",
        "callbacks: {early_stopping: {monitro: val/loss}}",
        "callbacks: {early_stopping: {}}",
        "plugins: {enabled: []}",
        "plugins: {timing: often}",
    ],
)
def test_the_schema_refuses_what_is_wrong(validator: jsonschema.Draft202012Validator, change: str) -> None:
    base = yaml.safe_load(Path("config.yaml").read_text())
    assert list(validator.iter_errors(base | yaml.safe_load(change)))


def test_of_callbacks_of_other_packages_only_those_that_are_named_are_imported(site: Site) -> None:
    points = "[trainkit.callbacks]\nmine = of_mine:Mine\ntheirs = of_theirs:Theirs\nearly_stopping = of_theirs:Theirs\n"
    source = "class Mine:\n    def __init__(self, rate: float): ...\n"
    site.install("both", "1.0", points, of_mine=source, of_theirs="raise SystemExit('it was imported')")
    config = read({"module": {"_target_": "trainkit.testing.TinyModule"}, "callbacks": {"mine": {"rate": 0.5}}})
    validator = jsonschema.Draft202012Validator(json_schema(config))
    for callbacks, is_right in (
        ({"mine": {"rate": 0.5}, "theirs": {"anything": 1}}, True),
        ({"theirs": 3}, False),
        ({"mine": {"rate": "fast"}}, False),
        ({"early_stopping": {"monitor": "val/loss"}}, True),
        ({"early_stopping": {"monitr": "val/loss"}}, False),
    ):
        config_of_it = {"module": {"_target_": "trainkit.testing.TinyModule"}, "callbacks": callbacks}
        assert validator.is_valid(config_of_it) == is_right, callbacks
