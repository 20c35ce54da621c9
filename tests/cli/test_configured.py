from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from trainkit.errors import UnknownNameError

Run = Callable[..., Result]


def test_mistake_in_the_configuration_is_one_message_and_exit_code_2(trainkit_in_project: Run) -> None:
    result = trainkit_in_project("fit", "config.yaml", "trainer.max_epoch=3")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("UnknownArgumentError: unknown argument of Trainer 'max_epoch'.\n")
    assert "    in           override trainer.max_epoch=3\n" in result.stderr
    assert result.stderr.endswith("    did you mean 'max_epochs'?\n")


def test_missing_file_is_a_message(trainkit_in_project: Run) -> None:
    result = trainkit_in_project("fit", "nowhere.yaml")

    assert result.exit_code == 2
    assert result.stderr == "ConfigError: cannot read the configuration 'nowhere.yaml': No such file or directory.\n"


def test_notes_of_an_error_are_shown(trainkit_in_project: Run) -> None:
    result = trainkit_in_project("fit", "config.yaml", "trainer.overfit_batches=-1")

    assert result.exit_code == 2
    assert "    in           config.yaml: trainer, with trainer.overfit_batches=-1" in result.stderr


def test_debug_lets_the_exception_through(trainkit_in_project: Run) -> None:
    result = trainkit_in_project("fit", "config.yaml", "trainer.max_epoch=3", "--debug")

    assert isinstance(result.exception, UnknownNameError)


def test_error_while_running_is_a_message_and_exit_code_1(trainkit_in_project: Run) -> None:
    result = trainkit_in_project("fit", "config.yaml", "module._target_=models.Broken")

    assert result.exit_code == 1
    assert "training_step returned str" in result.stderr


def test_ctrl_c_is_exit_code_130(trainkit_in_project: Run) -> None:
    result = trainkit_in_project("fit", "config.yaml", "module._target_=models.Interrupted")

    assert result.exit_code == 130


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_modules_of_the_current_directory_are_found(trainkit_in_project: Run, command: str) -> None:
    assert trainkit_in_project(command, "config.yaml").exit_code == 0


def test_a_file_called_as_a_package_is_does_not_take_its_place(tmp_path: Path) -> None:
    folder, scripts = tmp_path / "project", tmp_path / "bin"
    folder.mkdir()
    scripts.mkdir()
    for name in ("yaml", "click", "torch", "omegaconf"):
        (folder / f"{name}.py").write_text(f"print('{name} of the folder'); raise SystemExit(9)")
    # As pip writes it: only its own folder is on the path.
    (scripts / "trainkit").write_text("from trainkit.cli.main import main\nmain()")
    (folder / "models.py").write_text("")
    (folder / "config.yaml").write_text("module: {_target_: models.Net}")
    for program in (["-m", "trainkit"], [str(scripts / "trainkit")]):
        command = [sys.executable, *program, "fit", "config.yaml"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.stdout == ""
        # The module that the configuration names is found there.
        assert "unknown name in models 'Net'" in done.stderr
