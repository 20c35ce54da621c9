from __future__ import annotations

import inspect
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

import trainkit
from tests.installed import Site
from trainkit import Trainer
from trainkit.cli.complete import SECTIONS, Bash
from trainkit.cli.main import main
from trainkit.config.schema import Config, Source
from trainkit.hooks.specs import HOOKS
from trainkit.plugins import catalog

ROOT = Path(trainkit.__file__).parents[1]

CONFIG = """
module: {_target_: nowhere.Net, hidden: 3, optimizer: {_target_: torch.optim.SGD, lr: 0.1}}
trainer: {max_epochs: 3}
callbacks: {mine: {_target_: nowhere.Mine, every: 3}}
"""


@pytest.fixture(autouse=True)
def project() -> None:
    Path("config.yaml").write_text(CONFIG)
    Path("more.yml").write_text("data: {_target_: nowhere.Data, workers: 4}\n")
    Path("notes.txt").write_text("")
    Path("conf").mkdir()
    Path("conf/wide.yaml").write_text("")


def completed(*words: str) -> list[str]:
    *before, incomplete = words
    found = ShellComplete(main, {}, "trainkit", "_TRAINKIT_COMPLETE").get_completions(before, incomplete)
    return [item.value for item in found]


def test_commands_and_options_are_completed() -> None:
    assert completed("pl") == ["plugins", "plugin"]
    assert completed("fit", "--res") == ["--resume", "--resume-data"]
    assert completed("checkpoint", "ve") == ["verify"]


@pytest.mark.parametrize(
    "command", ["fit", "explain", "validate", "test", "predict", "config", "verify-resume", "doctor"]
)
def test_a_configuration_is_completed_in_every_command(command: str) -> None:
    assert completed(command, "") == ["conf/", "config.yaml", "more.yml"]
    assert completed(command, "con") == ["conf/", "config.yaml"]
    assert completed(command, "conf/") == ["conf/wide.yaml"]
    assert completed(command, "config.yaml", "module.h") == ["module.hidden="]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("mod", ["module."]),
        ("data", ["data."]),
        ("mo", ["module.", "more.yml"]),
        ("se", ["seed="]),
        ("module.", ["module._target_=", "module.hidden=", "module.optimizer=", "module.optimizer."]),
        ("module.optimizer.l", ["module.optimizer.lr="]),
        ("trainer.max_ep", ["trainer.max_epochs="]),
        ("trainer.callb", []),
        ("callbacks.early", ["callbacks.early_stopping="]),
        ("callbacks.mine.", ["callbacks.mine._target_=", "callbacks.mine.every="]),
        ("~module.h", ["~module.hidden"]),
        ("+module.h", ["+module.hidden="]),
        ("module.hidden=", []),
        ("nothing", []),
    ],
)
def test_keys_are_completed_up_to_the_next_dot(word: str, expected: list[str]) -> None:
    assert completed("fit", "config.yaml", word) == expected


def test_keys_are_those_of_all_files_before() -> None:
    assert completed("fit", "config.yaml", "data.w") == []
    assert completed("fit", "config.yaml", "trainer.max_epochs=3", "more.yml", "data.w") == ["data.workers="]


@pytest.mark.parametrize("text", ["a: [", "- 1", "\0", "&a [*a]", "3: {4: 5}"])
def test_a_file_that_cannot_be_read_completes_nothing(text: str) -> None:
    Path("config.yaml").write_text(text)
    assert completed("fit", "config.yaml", "trainer.max_ep") == ["trainer.max_epochs="]
    assert completed("fit", "nowhere.yaml", "trainer.max_ep") == ["trainer.max_epochs="]


def test_what_is_read_off_the_source_is_what_there_is() -> None:
    parameters = inspect.signature(Trainer.__init__).parameters.values()
    known = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY} - {"callbacks"}
    assert set(completed("fit", "config.yaml", "trainer.")) == {f"trainer.{name}=" for name in known}
    assert sorted(completed("plugins", "--order", "")) == sorted(HOOKS)
    assert list(SECTIONS) == list(Config(source=Source("", {}), module={}, trainer={}, callbacks={}).sections())
    names = {entry.name for entry in catalog.entries("callbacks")}
    assert names <= {each.partition(".")[2].rstrip("=") for each in completed("fit", "config.yaml", "callbacks.")}
    assert set(completed("fit", "config.yaml", "--no-plugin", "")) == names


def test_packages_are_completed(site: Site) -> None:
    site.install("ema-one", "1.0", "[trainkit.callbacks]\nema = nowhere:x\n")
    assert completed("plugins", "--from", "ema") == ["ema-one"]


def test_completing_imports_no_torch() -> None:
    code = (
        "import sys; from click.shell_completion import ShellComplete; from trainkit.cli.main import main\n"
        "complete = ShellComplete(main, {}, 'trainkit', '_TRAINKIT_COMPLETE')\n"
        "for words in (['fit'], ['fit', 'config.yaml'], ['plugins', '--order'], ['plugins', '--from']):\n"
        "    assert complete.get_completions(words, '') is not None\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_script_for_bash_is_that_of_click_with_one_line_more() -> None:
    assert Bash.source_template.count("nospace") == 1
    assert click.shell_completion.BashComplete.source_template.count("nospace") == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_tab_key_of_a_real_bash_completes(tmp_path: Path) -> None:
    # A command that tells what it was given, unless it is asked what there is to complete.
    script = tmp_path / "trainkit"
    script.write_text(
        f"#!{sys.executable}\nimport os, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "if '_TRAINKIT_COMPLETE' not in os.environ:\n    print('GIVEN', sys.argv[1:])\n    sys.exit()\n"
        "from trainkit.cli.main import main\nmain(prog_name='trainkit')\n"
    )
    script.chmod(0o755)
    source = 'eval "$(_TRAINKIT_COMPLETE=bash_source trainkit)"'
    typed = f"{source}\ntrainkit fi\tconfig.y\ttrainer.max_ep\t7 callbacks.ti\t{{}}\nexit\n"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TERM": "dumb", "INPUTRC": "/dev/null"}
    shown = in_a_terminal(["bash", "--norc", "--noprofile", "-i"], typed, environment)
    assert "GIVEN ['fit', 'config.yaml', 'trainer.max_epochs=7', 'callbacks.timer={}']" in shown, shown


def in_a_terminal(command: list[str], typed: str, environment: dict[str, str]) -> str:
    """Return what ``command`` shows in a terminal in which this is ``typed``."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True
    )
    os.close(follower)
    os.write(leader, typed.encode())
    shown = b""
    try:
        while part := os.read(leader, 4096):
            shown += part
    except OSError:  # the terminal was left
        pass
    process.wait(timeout=60)
    os.close(leader)
    return shown.decode(errors="replace")
