from __future__ import annotations

import json
import os
import subprocess
import sys
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


def test_an_item_that_was_appended_is_from_its_override_alone(trainkit_in_project: Trainkit) -> None:
    Path("more.yaml").write_text("callbacks: [timer]\nshared: {sizes: [1, 2]}")
    lines = trainkit_in_project(
        "config", "config.yaml", "more.yaml", "callbacks+={use: lr_monitor}", "shared.sizes+=3", "--origins"
    ).output.splitlines()
    origins = {line.partition("#")[0].strip(): line.partition("#")[2].strip() for line in lines}
    assert origins['callbacks.0.use="timer"'] == "more.yaml"
    assert origins['callbacks.1.use="lr_monitor"'] == "override callbacks+={use: lr_monitor}"
    assert [origins[f"shared.sizes[{n}]={n + 1}"] for n in range(3)] == ["more.yaml"] * 2 + ["override shared.sizes+=3"]


def test_origins_and_check_are_both_done(trainkit_in_project: Trainkit) -> None:
    lines = trainkit_in_project("config", "config.yaml", "--origins", "--check").output.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("seed=7")] == ["config.yaml"]
    assert "all objects can be built." in lines


def test_of_several_ranks_one_tells_what_was_checked(trainkit_in_project: Trainkit) -> None:
    command = [sys.executable, "-m", "trainkit", "config", "config.yaml", "trainer.devices=2", "--check", "--origins"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert (done.stdout.count("all objects can be built."), done.stdout.count("seed=7")) == (1, 1)


def test_a_checkpoint_that_is_not_there_is_found_by_the_check(trainkit_in_project: Trainkit) -> None:
    Path("there.ckpt").write_text("")
    for path in ("last", "best", "there.ckpt", "s3://bucket/a.ckpt", "null"):
        assert trainkit_in_project("config", "config.yaml", "--check", f"ckpt_path={path}").exit_code == 0, path
    wrong = trainkit_in_project("config", "config.yaml", "--check", "ckpt_path=lst")
    assert wrong.exit_code == 2 and "did you mean   'last'?" in wrong.output


def test_what_a_constructor_raises_is_one_message_with_file_and_key(trainkit_in_project: Trainkit) -> None:
    Path("picky.py").write_text("""
from trainkit.testing import TinyModule

class Picky(TinyModule):
    def __init__(self, width: int = 3) -> None:
        raise ValueError("width has to be even")
""")
    arguments = ("config.yaml", "module:={_target_: picky.Picky}")
    for command in (["config", "--check"], ["fit"], ["explain"], ["plugins", "--order", "setup"]):
        result = trainkit_in_project(*command, *arguments)
        assert result.exit_code == 2, result.output
        told = result.stderr.splitlines()
        assert told[0] == "ValueError: width has to be even" and len(told) == 4, told
        assert told[1].startswith("    in           config.yaml: module") or told[1].startswith(
            "    in           override"
        )
        assert told[2].endswith("picky.py:6")
        told[3] = told[3].replace("trainkit config CONFIG --check ", "" if command[0] == "plugins" else "wrong")
        assert told[3] == "    to do        --debug shows the traceback"
    for words in (("config", *arguments, "--check", "--debug"), ("fit", *arguments, "--debug")):
        assert isinstance(trainkit_in_project(*words).exception, ValueError)


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


def test_it_prints_a_schema_for_editors(trainkit_in_project: Trainkit) -> None:
    result = trainkit_in_project("config", "config.yaml", "--schema")
    assert json.loads(result.output)["properties"]["module"]


def test_a_shared_value_that_nobody_reads_is_told(trainkit_in_project: Trainkit) -> None:
    Path("more.yaml").write_text("shared: {width: 3, depth: 2}\n")
    result = trainkit_in_project("config", "config.yaml", "more.yaml", "--check", "trainer.max_epochs=${shared.width}")
    assert result.exit_code == 0, result.output
    assert "not read: shared.depth: no ${shared.depth} refers to it" in result.output
    assert "shared.width" not in result.output


def test_errors_have_public_names(trainkit_in_project: Trainkit) -> None:
    result = trainkit_in_project("config", "config.yaml", "--check", "module._target_=trainkit.tesing.TinyModule")
    assert result.output.startswith("ConfigError: there is no module 'trainkit.tesing'.")
