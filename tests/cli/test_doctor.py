from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

from tests.installed import Site
from trainkit.config.schema import Config

Trainkit = Callable[..., Result]


def test_it_looks_at_the_machine(trainkit_in_project: Trainkit) -> None:
    result = trainkit_in_project("doctor")
    told = json.loads(trainkit_in_project("doctor", "--json").output)
    assert result.exit_code == int(told["broken"])
    assert {"trainkit", "needs", "cpu", "disk"} <= {each["about"] for each in told["facts"]}
    assert max(map(len, result.output.splitlines())) <= 80


def test_without_torch_it_tells_that_and_reads_no_configuration(
    trainkit_in_project: Trainkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trainkit.doctor.hardware", None)
    result = trainkit_in_project("doctor", "nowhere.yaml")
    assert result.exit_code == 1 and "torch cannot be imported" in result.output


def test_a_full_disk_is_broken_and_nothing_is_tried(
    trainkit_in_project: Trainkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    result = trainkit_in_project("doctor", "config.yaml", "trainer.default_root_dir=runs", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert any("is full" in each["what"] for each in told["findings"]) and told["speed"] == {}


def test_it_tries_a_run_and_leaves_nothing(trainkit_in_project: Trainkit) -> None:
    Path("talks.py").write_text("""
from trainkit.testing import TinyModule

class Talks(TinyModule):
    def training_step(self, batch, batch_idx):
        print("training")
        return super().training_step(batch, batch_idx)
""")
    before = sorted(os.listdir())
    result = trainkit_in_project("doctor", "config.yaml", "module._target_=talks.Talks", "--json")
    told = json.loads(result.stdout)
    facts = {each["about"]: each["text"] for each in told["facts"]}
    assert facts["bound by"] == "the step" and "plugins included" in facts["step"]
    assert result.stderr.count("training\n") == 4
    assert told["speed"].keys() == {"first_s", "load_s", "step_s", "waited"} and told["speed"]["step_s"] > 0
    assert [name for name in sorted(os.listdir()) if name != "__pycache__"] == before


def test_a_run_that_ends_its_own_program_is_broken(trainkit_in_project: Trainkit) -> None:
    Path("ends.py").write_text("""
import sys
from trainkit.testing import TinyModule

class Ends(TinyModule):
    def training_step(self, batch, batch_idx):
        sys.exit(3)
""")
    result = trainkit_in_project("doctor", "config.yaml", "module._target_=ends.Ends")
    assert result.exit_code == 1
    assert "the run ends the program, by SystemExit(3)" in " ".join(result.output.split())


def test_a_run_that_fails_is_broken(trainkit_in_project: Trainkit) -> None:
    for override, told in [
        ("module._target_=models.Broken", "training_step returned str"),
        ("trainer.max_epoch=3", "did you mean 'max_epochs'?"),
        ("trainer.accelerator=mps", "there is no MPS device here"),
    ]:
        result = trainkit_in_project("doctor", "config.yaml", override)
        assert result.exit_code == 1, result.output
        assert told in " ".join(result.output.split()), result.output
    assert isinstance(
        trainkit_in_project("doctor", "config.yaml", "trainer.max_epoch=3", "--debug").exception, TypeError
    )


def test_a_plugin_that_is_named_and_broken_is_told(site: Site, trainkit_in_project: Trainkit) -> None:
    site.install("bad", "1.0", "[trainkit.callbacks]\nbad = bad:Bad\n", bad="1 / 0\n")
    assert trainkit_in_project("doctor", "config.yaml").exit_code == 0
    result = trainkit_in_project("doctor", "config.yaml", "callbacks={bad: {}}")
    assert result.exit_code == 1 and "callback 'bad' cannot be imported" in " ".join(result.output.split())


def test_several_devices_are_tried_on_one_without_starting_others(trainkit_in_project: Trainkit) -> None:
    command = [sys.executable, "-m", "trainkit", "doctor", "config.yaml", "trainer.devices=2"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bound by") == 1 and "tried on one device alone" in done.stdout


@pytest.mark.parametrize(
    ("given", "devices", "changed"),
    [
        ({}, 4, {}),
        ({"devices": 1, "strategy": "ddp"}, 4, {}),
        ({"devices": [2]}, 4, {}),
        ({"strategy": "ddp"}, 1, {}),
        ({"strategy": "ddp"}, 4, {"devices": 1}),
        ({"devices": -1}, 4, {"devices": 1, "num_nodes": 1, "strategy": "auto"}),
        ({"devices": [0, 1]}, 4, {"devices": 1, "num_nodes": 1, "strategy": "auto"}),
        ({"num_nodes": 2}, 4, {"devices": 1, "num_nodes": 1, "strategy": "auto"}),
    ],
)
def test_no_other_ranks_are_started(
    trainkit_in_project: Trainkit,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    devices: int,
    changed: dict[str, Any],
) -> None:
    tried: list[dict[str, Any]] = []

    def note(config: Config) -> None:
        tried.append(config.trainer)
        raise ValueError("no further")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr("trainkit.config.build", note)
    result = trainkit_in_project("doctor", "config.yaml", *(f"trainer.{name}={value}" for name, value in given.items()))
    assert "ValueError: no further" in result.output
    (trainer,) = tried
    known = {name: trainer[name] for name in ("devices", "num_nodes", "strategy") if name in trainer}
    assert known == given | changed


def test_one_of_several_ranks_is_refused(trainkit_in_project: Trainkit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = trainkit_in_project("doctor", "config.yaml")
    assert result.exit_code == 2 and "without torchrun" in result.output
