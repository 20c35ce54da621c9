from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.version import Version

import trainkit
from trainkit.cli.main import main
from trainkit.cli.plugin import write_package
from trainkit.errors import ConfigError

ROOT = Path(trainkit.__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "folder", "callback"),
    [
        ("loss-printer", "trainkit-loss-printer", "LossPrinter"),
        ("LossPrinter", "trainkit-loss-printer", "LossPrinter"),
        ("trainkit-loss_printer", "trainkit-loss-printer", "LossPrinter"),
        ("ema2", "trainkit-ema2", "Ema2"),
    ],
)
def test_any_spelling_of_a_name_gives_one_package(tmp_path: Path, name: str, folder: str, callback: str) -> None:
    assert write_package(name, tmp_path) == tmp_path / folder
    package = tmp_path / folder / folder.replace("-", "_")
    assert f"class {callback}:" in (package / "callback.py").read_text()
    # No place of a template was left open.
    assert not [file for file in (tmp_path / folder).rglob("*.*") if file.is_file() and "$" in file.read_text()]


@pytest.mark.parametrize("name", ["", "-", "2nd", "ünder", "trainkit-"])
def test_names_that_python_does_not_take_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a plugin"):
        write_package(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "trainkit-mine").mkdir()
    (tmp_path / "trainkit-mine" / "notes.txt").write_text("mine")
    result = CliRunner().invoke(main, ["plugin", "new", "mine", "--into", str(tmp_path)])
    assert result.exit_code == 2 and "is there already" in result.output
    assert [path.name for path in (tmp_path / "trainkit-mine").iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_the_package_installs_is_found_and_its_test_passes(tmp_path: Path) -> None:
    folder = write_package("loss-printer", tmp_path)
    site = tmp_path / "site"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", site, folder], check=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(command, cwd=folder / "tests", env=environment, capture_output=True, text=True)

    checked = run("trainkit", "plugins", "--from", "trainkit-loss-printer", "--check")
    assert checked.returncode == 0 and "callback   loss_printer" in checked.stdout, checked.stderr
    tested = run("pytest", "-q", "-p", "no:cacheprovider", ".")
    assert tested.returncode == 0 and "1 passed" in tested.stdout, tested.stdout


@pytest.mark.slow
@pytest.mark.distributed
def test_the_tests_on_the_page_pass(tmp_path: Path) -> None:
    folder = write_package("loss-printer", tmp_path)
    page = (ROOT / "docs" / "how-to" / "plugins.md").read_text()
    blocks = [
        each for each in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "def test_" in each
    ]
    assert len(blocks) == 2
    (folder / "tests" / "test_page.py").write_text("\n\n".join(blocks))
    path = os.pathsep.join([str(folder), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "trainkit.pytest_plugin", "tests"]
    tested = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert tested.returncode == 0 and "4 passed" in tested.stdout, tested.stdout


def test_the_package_says_for_which_versions_it_is_made(tmp_path: Path) -> None:
    package = write_package("loss-printer", tmp_path)
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    (needs,) = map(Requirement, project["dependencies"])
    now = Version(trainkit.__version__)
    assert needs.name == "trainkit" and now in needs.specifier
    assert f"{now.major}.{now.minor + 1}.0" not in needs.specifier
