from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.installed import Site
from trainkit.testing import Recorder, TinyData, TinyModule
from trainkit.trainer import Trainer

NAME = "trainkit.pytest_plugin"
CONFTEST = """
import sys

def pytest_sessionfinish():
    loaded = sorted(name for name in sys.modules if name.split(".")[0] in ("torch", "trainkit", "numpy"))
    print("\\nloaded", *loaded)
"""


def run(folder: Path, *options: str, site: Site | None = None) -> str:
    """Return what pytest prints that collects one test of somebody who has nothing to do with trainkit."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_theirs.py").write_text("def test_theirs(): ...\n")
    path = os.pathsep.join([*([str(site.folder)] if site else []), *sys.path])
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-s", *options]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return re.sub(r" in \d.*s|^plugins: .*\n", "", done.stdout, flags=re.MULTILINE)


@pytest.fixture
def installed(site: Site) -> Site:
    """As pip leaves it; that of the environment may be older."""
    site.install("trainkit-as-installed", "0.1", f"[pytest11]\n{NAME} = {NAME}\n")
    return site


@pytest.mark.parametrize("options", [["--collect-only"], []])
def test_it_imports_nothing_of_weight_and_says_nothing(installed: Site, options: list[str], tmp_path: Path) -> None:
    without = run(tmp_path, *options, "-p", f"no:{NAME}", site=installed)
    assert "loaded\n" in without
    told = run(tmp_path, *options, site=installed)
    assert re.search(r"loaded .*", told)[0].split() == ["loaded", "trainkit", NAME, "trainkit.start_folder"]  # type: ignore[index]
    assert re.sub("loaded.*", "", told) == re.sub("loaded.*", "", without)


def test_who_names_it_too_gets_it_once(installed: Site, tmp_path: Path) -> None:
    assert f"loaded trainkit {NAME}" in run(tmp_path, "-p", NAME, site=installed)
    (tmp_path / "sub").mkdir()
    fixtures = run(tmp_path, "--fixtures", "-p", NAME, site=installed)
    assert fixtures.count("trainkit_recorder -- ") == 1


def test_it_has_no_option_and_no_fixture_that_is_used_by_itself(pytestconfig: pytest.Config) -> None:
    plugin: Any = pytestconfig.pluginmanager.get_plugin(NAME)
    assert [name for name in vars(plugin) if name.startswith("pytest_")] == []
    fixtures = {name: value for name, value in vars(plugin).items() if name.startswith("trainkit_")}
    assert len(fixtures) == 5 and not any(each._fixture_function_marker.autouse for each in fixtures.values())


def test_they_make_a_run(
    trainkit_module: TinyModule,
    trainkit_data: TinyData,
    trainkit_recorder: Recorder,
    trainkit_trainer: Callable[..., Trainer],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = trainkit_trainer(callbacks=[trainkit_recorder], enable_checkpointing=True)
    trainer.fit(trainkit_module, trainkit_data)
    assert (trainer.global_step, trainkit_recorder.count("on_train_batch_end")) == (4, 4)
    assert Path(trainer.default_root_dir) == tmp_path and list(tmp_path.rglob("*.ckpt"))
    assert capsys.readouterr() == ("", "")


def rank() -> str:
    return os.environ["RANK"]


@pytest.mark.slow
@pytest.mark.distributed
def test_they_have_ranks(trainkit_ranks: Callable[..., list[Any]]) -> None:
    assert trainkit_ranks(rank) == ["0", "1"]
