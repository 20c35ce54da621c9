from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import trainkit
from trainkit.cli.main import COMMANDS, main

ROOT = Path(trainkit.__file__).parents[1]


def test_help_lists_every_command_in_order() -> None:
    output = CliRunner().invoke(main, ["--help"]).output

    listed = [line.split()[0] for line in output.partition("Commands:")[2].splitlines() if line.strip()]
    assert (
        listed
        == list(COMMANDS)
        == [
            "fit",
            "explain",
            "validate",
            "test",
            "predict",
            "checkpoint",
            "verify-resume",
            "config",
            "doctor",
            "plugins",
            "plugin",
            "init",
            "runs",
        ]
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)])
def test_help_needs_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from trainkit.cli.main import main; main(sys.argv[1:], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert any(word in done.stdout for word in ("trainkit", "CONFIG", "COMMAND"))


def test_misspelled_command_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(main, ["fitt"])

    assert result.exit_code == 2
    assert "No such command 'fitt'. Did you mean 'fit'?" in result.output


def test_unrelated_command_is_refused() -> None:
    result = CliRunner().invoke(main, ["xyzzy"])

    assert result.exit_code == 2
    assert "No such command 'xyzzy'" in result.output


def test_module_and_script_are_one_command() -> None:
    done = subprocess.run([sys.executable, "-m", "trainkit", "--version"], cwd=ROOT, capture_output=True, text=True)
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["trainkit"]
    module, _, name = script.partition(":")

    assert trainkit.__version__ in done.stdout
    assert getattr(import_module(module), name) is main


def test_a_warning_names_the_command_in_place_of_a_line_that_is_not_the_users(
    trainkit_in_project: Callable[..., Any],
) -> None:
    # In a process of its own: pytest takes warnings for itself.
    code = "import sys; from trainkit.cli.main import main; main(sys.argv[1:], prog_name='trainkit')"
    command = [sys.executable, "-c", code, "fit", "config.yaml", "trainer.max_epochs=null", "trainer.max_steps=1"]

    done = subprocess.run([*command, "trainer.accumulate_grad_batches=1000"], capture_output=True, text=True)

    told = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert told and all(line.startswith("trainkit fit: UserWarning: ") for line in told), done.stderr


def all_commands(command: click.Command = main, *names: str) -> Iterator[tuple[str, ...]]:
    """Yield the names that lead to each command, groups among them."""
    yield names
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from all_commands(found, *names, name)


@pytest.mark.parametrize("names", list(all_commands()), ids=" ".join)
def test_every_help_has_examples_that_parse(names: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(main, [*names, "--help"]).output
    _, _, behind = shown.partition("  Examples:\n")
    examples = [line.strip() for line in itertools.takewhile(str.strip, behind.splitlines())]
    own = [line for line in examples if line.startswith(" ".join(("trainkit", *names)))]

    assert own, shown
    for line in examples:
        # What a shell does with the rest is not ours.
        words = shlex.split(re.split(" > | && ", line)[0])
        if words[0] == "trainkit":
            parse(words[1:])


def parse(words: list[str]) -> None:
    command: click.Command = main
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(click.Context(command), name)
        assert found is not None, name
        command = found
    command.make_context(command.name, words)


def test_a_key_that_is_written_as_an_option_is_told_how() -> None:
    result = CliRunner().invoke(main, ["fit", "config.yaml", "--trainer.max_epochs=3"])
    assert result.exit_code == 2
    assert "Keys of the configuration have no dashes: trainer.max_epochs=VALUE" in result.output
    assert "no dashes" not in CliRunner().invoke(main, ["fit", "config.yaml", "--max_epochs"]).output
