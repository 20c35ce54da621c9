from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from click.testing import Result

Trainkit = Callable[..., Result]


def test_it_prints_what_the_files_come_to(trainkit_in_project: Trainkit) -> None:
    Path("more.yaml").write_text("shared: {lr: 3}\nmodule: {lr: '${shared.lr}'}")
    result = trainkit_in_project("config", "config.yaml", "more.yaml", "trainer.max_epochs=7")
    assert result.exit_code == 0
    told = yaml.safe_load(result.output)
    assert (told["module"]["lr"], told["trainer"]["max_epochs"], told["seed"]) == (3, 7, 7)
    Path("kept.yaml").write_text(result.output)
    assert trainkit_in_project("config", "kept.yaml").output == result.output


def test_it_says_where_each_value_came_from(trainkit_in_project: Trainkit) -> None:
    Path("more.yaml").write_text("module: {lr: 3}\ncallbacks: [timer]")
    lines = trainkit_in_project(
        "config", "config.yaml", "more.yaml", "trainer.max_epochs=7", "--origins"
    ).output.splitlines()
    origins = {line.partition("#")[0].strip(): line.partition("#")[2].strip() for line in lines}
    assert origins["seed=7"] == "config.yaml"
    assert origins["module.lr=3"] == "more.yaml"
    assert origins['module._target_="models.TinyModule"'] == "config.yaml"
    assert origins["trainer.max_epochs=7"] == "override trainer.max_epochs=7"
    assert origins['callbacks.0.use="timer"'] == "more.yaml"


def test_it_builds_all_objects_and_names_what_no_check_can_know(trainkit_in_project: Trainkit) -> None:
    text = """
import trainkit

class Loose(trainkit.TrainModule):
    def __init__(self, width, **options):
        super().__init__()
"""
    Path("loose.py").write_text(text)
    arguments = ("config", "config.yaml", "module:={_target_: loose.Loose, width: 3, hiden: 4}", "--check")
    result = trainkit_in_project(*arguments)
    assert result.exit_code == 0, result.output
    assert "all objects can be built." in result.output
    assert "not checked: module.width: width of Loose has no annotation" in result.output
    assert "not checked: module.hiden: Loose takes any name, by **kwargs" in result.output
    wrong = trainkit_in_project("config", "config.yaml", "module.lr=fast", "--check")
    assert wrong.exit_code == 2 and "module.lr='fast' is not usable" in wrong.output


def test_it_tells_what_a_class_takes(trainkit_in_project: Trainkit) -> None:
    told = trainkit_in_project("config", "config.yaml", "--help-of", "module").output
    assert told.startswith("module: trainkit.testing.tiny.TinyModule\n")
    assert "  lr: float = 0.1\n      Learning rate of the plain SGD." in told
    told = trainkit_in_project("config", "config.yaml", "--help-of", "callbacks.timer").output
    assert "trainkit.callbacks.timer.Timer" in told and "  duration: " in told
    assert "  max_epochs: int | None" in trainkit_in_project("config", "config.yaml", "--help-of", "trainer").output
    wrong = trainkit_in_project("config", "config.yaml", "--help-of", "seed")
    assert wrong.exit_code == 2 and "there is no class at that key" in wrong.output


def test_it_prints_a_schema_for_editors(trainkit_in_project: Trainkit) -> None:
    result = trainkit_in_project("config", "config.yaml", "--schema")
    assert json.loads(result.output)["properties"]["module"]
