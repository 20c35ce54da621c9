from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import trainkit
from tests.installed import Site
from trainkit.cli.main import COMMANDS, main
from trainkit.plugins.catalog import SINGULAR
from trainkit.plugins.installed import offers

ROOT = Path(trainkit.__file__).parents[1]

GREET = """
import click

@click.command()
@click.argument("name")
def greet(name):
    click.echo(f"hello {name}")
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_every_name_is_listed_with_who_offers_it(site: Site) -> None:
    site.install("ema-one", "1.0", "[trainkit.callbacks]\nema = nowhere:x\n[trainkit.loggers]\nlake = nowhere:x\n")
    lines = run("plugins").output.splitlines()
    assert lines[0].split() == ["kind", "name", "from", "status"]
    listed = [line.split()[:4] for line in lines[1:] if not line.startswith(" ")]  # which are notes
    expected = [
        [SINGULAR[each.entry.kind], each.entry.name, each.entry.distribution, each.entry.version] for each in offers()
    ]
    assert listed == expected
    assert ["callback", "ema", "ema-one", "1.0"] in listed and ["logger", "lake", "ema-one", "1.0"] in listed


def test_json_holds_the_same_and_what_is_not_read(site: Site) -> None:
    site.install("slipped", "1.0", "[trainkit.callback]\nema = nowhere:x\n[trainkit.callbacks]\ncsv = nowhere:y\n")
    told = json.loads(run("plugins", "--json", "--kind", "callbacks").output)
    assert [each for each in told["plugins"] if each["distribution"] == "slipped"] == [
        {
            "kind": "callback",
            "name": "csv",
            "distribution": "slipped",
            "version": "1.0",
            "target": "nowhere:y",
            "status": "shadowed",
            "note": "'csv' is trainkit's own: write 'slipped:csv'",
        }
    ]
    assert told["not_read"] == [
        "'ema' of slipped 1.0 is in the group 'trainkit.callback': did you mean 'trainkit.callbacks'?"
    ]


def test_check_imports_each_part_and_tells_what_fails(site: Site) -> None:
    site.install(
        "mixed",
        "1.0",
        "[trainkit.callbacks]\ngood = mixed_good:Good\nbad = mixed_bad:Bad\nabsent = mixed_good:Absent\n"
        "ends = mixed_end:End\nvalue = mixed_good:VALUE\n",
        mixed_good="class Good: pass\nVALUE = 3\n",
        mixed_end="raise SystemExit(3)",
        mixed_bad="import trainkit_has_no_such_module\n",
    )
    result = run("plugins", "--from", "mixed", "--check", "--json")
    told = {each["name"]: each for each in json.loads(result.output)["plugins"]}
    assert result.exit_code == 1
    assert told["good"]["status"] == "imports" and told["good"]["import_s"] >= 0
    assert told["bad"]["status"] == "fails" and "trainkit_has_no_such_module" in told["bad"]["note"]
    assert (told["ends"]["status"], told["ends"]["note"]) == ("fails", "SystemExit: 3")
    assert told["value"]["status"] == "fails" and "'value' is 3, and a class or function" in told["value"]["note"]
    assert told["absent"]["status"] == "fails" and "Absent" in told["absent"]["note"]
    assert run("plugins", "--kind", "precision", "--check").exit_code == 0


def test_a_package_that_offers_nothing_is_answered_with_those_that_do(site: Site) -> None:
    site.install("ema-one", "1.0", "[trainkit.callbacks]\nema = nowhere:x\n")
    result = run("plugins", "--from", "ema-on")
    assert result.exit_code == 2 and "did you mean 'ema-one'?" in result.output


def test_a_package_is_found_in_any_spelling_and_one_that_offers_nothing_is_told_apart(site: Site) -> None:
    site.install("ema-one", "1.0", "[trainkit.callbacks]\nema = nowhere:x\n")
    assert "ema-one 1.0" in run("plugins", "--from", "EMA_one").output
    for package, told in [
        ("click", "click is installed, and offers nothing"),
        ("no-such", "no-such is not installed."),
    ]:
        result = run("plugins", "--from", package)
        assert result.exit_code == 2 and told in result.output, result.output
    assert "did you mean 'pytest'?" in run("plugins", "--from", "pytst").output


def test_no_plugin_is_charged_with_the_import_of_torch(site: Site) -> None:
    source = "import sys\nassert {'torch', 'trainkit.trainer'} <= set(sys.modules)\nx = dict\n"
    site.install("late", "1.0", "[trainkit.callbacks]\nlate = late:x\n", late=source)
    code = f"import sys; sys.path.insert(0, {str(site.folder)!r}); from trainkit.cli.main import main; main()"
    command = [sys.executable, "-c", code, "plugins", "--from", "late", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "imports" in done.stdout, done.stdout


def test_names_that_stand_for_others_are_listed() -> None:
    told = {each["name"]: each["note"] for each in json.loads(run("plugins", "--json").output)["plugins"]}
    assert told["fsdp_cpu_offload"] == "stands for fsdp, cpu_offload=True"
    assert told["bf16"] == "stands for bf16-mixed" and told["ddp"] == ""


def test_listing_imports_neither_torch_nor_a_package(site: Site) -> None:
    site.install("loud", "1.0", "[trainkit.callbacks]\nloud = loud:x\n[trainkit.cli]\nshout = loud:x\n", loud="1 / 0\n")
    code = (
        f"import sys; sys.path.insert(0, {str(site.folder)!r}); from trainkit.cli.main import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
    )
    for arguments in (["plugins"], ["--help"], ["plugins", "--help"]):
        after = "\nsys.exit(bool({'torch', 'loud'} & set(sys.modules)))"
        program = [sys.executable, "-c", f"import atexit, os\n{code}{after}", *arguments]
        done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)


def test_a_command_of_a_package_is_listed_and_runs(site: Site) -> None:
    site.install("greeter", "2.0", "[trainkit.cli]\ngreet = greeter:greet\n", greeter=GREET)
    assert "greet  offered by greeter 2.0" in run("--help").output
    assert run("greet", "world").output == "hello world\n"
    assert "Did you mean 'greet'?" in run("gret").output


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def greet(): pass\n", "a click.Command is needed"),
        ("1 / 0\n", "command 'greet' cannot be imported: ZeroDivisionError"),
    ],
)
def test_a_command_that_is_none_names_the_package(site: Site, source: str, told: str) -> None:
    site.install("greeter", "2.0", "[trainkit.cli]\ngreet = greeter:greet\n", greeter=source)
    result = run("greet")
    assert result.exit_code == 2
    assert told in result.output and "greeter 2.0" in result.output


def test_a_package_takes_no_command_of_trainkit(site: Site) -> None:
    site.install("greeter", "2.0", "[trainkit.cli]\nfit = greeter:greet\n", greeter=GREET)
    assert "Train the module that CONFIG describes." in run("fit", "--help").output


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_of_trainkit_are_listed_and_those_behind_them_told(site: Site, name: str) -> None:
    site.install("greeter", "2.0", f"[trainkit.cli]\n{name} = greeter:greet\n", greeter=GREET)
    rows = json.loads(run("plugins", "--kind", "cli", "--json").output)["plugins"]
    assert [row["name"] for row in rows if row["distribution"] == "trainkit"] == list(COMMANDS)
    (theirs,) = (row for row in rows if row["distribution"] == "greeter")
    assert theirs["status"] == "shadowed" and f"write 'greeter:{name}'" in theirs["note"]
    assert f"greeter:{name}  offered by greeter 2.0" in run("--help").output
    assert run(f"greeter:{name}", "world").output == "hello world\n"


@pytest.mark.parametrize("without", ["tally", "tallies", "my-tally", "my-tally:tally", "My_Tally"])
def test_no_plugin_leaves_out_a_callback_by_key_name_or_package(
    site: Site, trainkit_in_project: Callable[..., Result], without: str
) -> None:
    site.install(
        "my-tally",
        "1.0",
        "[trainkit.callbacks]\ntally = my_tally:Tally\n",
        my_tally="class Tally:\n    def on_fit_start(self):\n        print('it is here')\n",
    )
    override = "callbacks={tallies: {use: tally}}"
    assert "it is here" in trainkit_in_project("fit", "config.yaml", override).output
    result = trainkit_in_project("fit", "config.yaml", override, "--no-plugin", without)
    assert result.exit_code == 0, result.output
    assert "it is here" not in result.output


def test_no_plugin_leaves_out_a_default_and_refuses_a_slip(trainkit_in_project: Callable[..., Result]) -> None:
    done = trainkit_in_project("fit", "config.yaml", "--no-plugin", "tensorboard", "--no-plugin", "model_checkpoint")
    assert done.exit_code == 0, done.output
    assert not list(Path().rglob("events.out*"))
    wrong = trainkit_in_project("fit", "config.yaml", "--no-plugin", "tensorbord")
    assert wrong.exit_code == 2 and "did you mean 'tensorboard'?" in wrong.output


def test_a_configuration_says_which_packages_it_may_use(site: Site, trainkit_in_project: Callable[..., Result]) -> None:
    site.install("my-tally", "1.0", "[trainkit.callbacks]\ntally = my_tally:Tally\n", my_tally="1 / 0\n")
    refused = trainkit_in_project("fit", "config.yaml", "callbacks={tally: {}}", "plugins.enable=[]")
    assert refused.exit_code == 2
    assert "callback 'tally' of my-tally 1.0 may not be used here." in refused.output
    assert "said by      config.yaml: plugins, with plugins.enable=[]" in refused.output
    left_out = trainkit_in_project("fit", "config.yaml", "callbacks={tally: {}}", "plugins.disable=[my-tally]")
    assert left_out.exit_code == 0, left_out.output


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("plugins.disabled=[a]", "did you mean 'disable'?"),
        ("plugins.disable=a", "a list of names"),
        ("plugins.enable=[1]", "a list of names"),
        ("plugins=[a]", "plugins"),
    ],
)
def test_wrong_plugin_sections_are_refused(
    trainkit_in_project: Callable[..., Result], override: str, told: str
) -> None:
    result = trainkit_in_project("fit", "config.yaml", override)
    assert result.exit_code == 2 and told in result.output


def test_the_order_at_a_hook_is_that_of_the_run(trainkit_in_project: Callable[..., Result]) -> None:
    text = """
class Late:
    stage = "decide"
    def on_train_batch_end(self): pass

class Early:
    stage = "modify"
    def on_train_batch_end(self): pass
"""
    Path("own.py").write_text(text)
    override = "callbacks={a: {_target_: own.Late}, b: {_target_: own.Early}}"
    arguments = ["plugins", "--order", "on_train_batch_end", "config.yaml", override]
    told = json.loads(trainkit_in_project(*arguments, "--json").output)
    own = [name for name in told["order"] if name in ("Late", "Early")]
    assert (told["hook"], own) == ("on_train_batch_end", ["Early", "Late"])
    lines = trainkit_in_project(*arguments).output.splitlines()
    assert [line.split()[1] for line in lines if line.strip()[:1].isdigit()] == told["order"]
    assert lines[0].startswith("on_train_batch_end: ")
    assert not [path for path in Path().iterdir() if path.is_dir() and path.name != "__pycache__"]


def test_the_order_of_a_trainer_by_default_needs_no_configuration() -> None:
    told = json.loads(run("plugins", "--order", "setup", "--json").stdout)["order"]
    assert {"ProgressBar", "ModelCheckpoint", "TensorBoardLogger"} <= set(told)
    assert "nobody joins it" in run("plugins", "--order", "around_fit").output
    wrong = run("plugins", "--order", "on_train_bach_end")
    assert wrong.exit_code == 2 and "did you mean 'on_train_batch_end'?" in wrong.output


def test_a_configuration_belongs_to_an_order() -> None:
    wrong = run("plugins", "config.yaml")
    assert wrong.exit_code == 2 and "belongs to --order" in wrong.output
    wrong = run("plugins", "--order", "setup", "--check")
    assert wrong.exit_code == 2 and "--order stands alone" in wrong.output
