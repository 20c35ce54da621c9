from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from trainkit.plugins import catalog

Trainkit = Callable[..., Result]


def test_it_tells_what_a_class_takes(trainkit_in_project: Trainkit) -> None:
    told = trainkit_in_project("config", "config.yaml", "--help-of", "module").output
    assert told.startswith("module: trainkit.testing.tiny.TinyModule\n")
    assert "  lr: float = 0.1\n      Learning rate of the plain SGD." in told
    told = trainkit_in_project("config", "config.yaml", "--help-of", "callbacks.timer").output
    assert "trainkit.callbacks.timer.Timer" in told and "  duration: " in told
    assert "  max_epochs: int | None" in trainkit_in_project("config", "config.yaml", "--help-of", "trainer").output
    told = trainkit_in_project("config", "config.yaml", "--help-of", "trainer.max_epochs").output
    assert told.startswith("trainer.max_epochs: max_epochs: int | None") and "-1 for no limit" in told
    wrong = trainkit_in_project("config", "config.yaml", "--help-of", "seed")
    assert wrong.exit_code == 2 and "there is no class at that key" in wrong.output


@pytest.mark.parametrize(("argument", "kind"), catalog.KIND_OF_ARGUMENT.items())
def test_it_tells_which_plugins_an_argument_takes(trainkit_in_project: Trainkit, argument: str, kind: Any) -> None:
    result = trainkit_in_project("config", "config.yaml", "--help-of", f"trainer.{argument}")
    assert result.exit_code == 0, result.output
    names = [line.split()[0] for line in result.output.splitlines() if line.startswith("  ") and line[2] != " "]
    assert [entry.name for entry in catalog.entries(kind)] == names[: len(catalog.entries(kind))]
    for entry in catalog.entries(kind):
        told = trainkit_in_project("config", "config.yaml", "--help-of", f"trainer.{argument}.{entry.name}")
        assert told.exit_code == 0 and f".{entry.target.rpartition(':')[2]}" in told.output.splitlines()[0]


def test_it_tells_what_the_plugin_takes_that_is_used(trainkit_in_project: Trainkit) -> None:
    for given in ("trainer.strategy=ddp", "trainer.strategy={use: ddp}"):
        told = trainkit_in_project("config", "config.yaml", given, "--help-of", "trainer.strategy").output
        assert "trainer.strategy=ddp: trainkit.strategies.ddp.DDP" in told and "  bucket_cap_mb" in told
    wrong = trainkit_in_project("config", "config.yaml", "--help-of", "trainer.strategy.dddp")
    assert wrong.exit_code == 2 and "did you mean 'ddp'?" in wrong.output


def test_a_class_that_an_argument_of_the_trainer_names_is_told_too(trainkit_in_project: Trainkit) -> None:
    given = "trainer.strategy={_target_: trainkit.strategies.ddp.DDP}"
    told = trainkit_in_project("config", "config.yaml", given, "--help-of", "trainer.strategy").output
    assert "  fsdp " in told and "\ntrainer.strategy: trainkit.strategies.ddp.DDP\n" in told


def test_a_key_may_lead_into_a_list(trainkit_in_project: Trainkit) -> None:
    given = "module.parts=[{_target_: torch.nn.Linear}]"
    for key in ("module.parts[0]", "module.parts.0"):
        told = trainkit_in_project("config", "config.yaml", given, "--help-of", key).output
        assert told.startswith(f"{key}: torch.nn.modules.linear.Linear\n"), told
    for key in ("module.parts[1]", "module.parts.x", "module.lr.x", "nothing"):
        assert trainkit_in_project("config", "config.yaml", given, "--help-of", key).exit_code == 2
