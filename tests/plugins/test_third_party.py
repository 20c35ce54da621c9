"""A real package is installed with pip into a folder of its own, used by name, and removed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

import trainkit

pytestmark = pytest.mark.slow
ROOT = Path(trainkit.__file__).parents[1]
SOURCE = ROOT / "examples" / "plugin_package"
TRAIN = """
import sys
from trainkit.errors import UnknownNameError
from trainkit.plugins import catalog
from trainkit.testing import TinyData, TinyModule, quiet_trainer

def imported():
    return [name for name in sys.modules if name.startswith("trainkit_tally")]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the package in it; built from a copy, so that nothing is left beside its source."""
    source = tmp_path_factory.mktemp("source") / "trainkit-tally"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
    site = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", site, source], check=True)
    yield site


def run(site: Path, code: str) -> None:
    """Run ``code`` in a fresh interpreter that has ``site`` on its path."""
    path = os.pathsep.join([str(site), str(Path(trainkit.__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", TRAIN + code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_installing_the_package_changes_nothing(site: Path) -> None:
    run(
        site,
        """
quiet_trainer().fit(TinyModule(), TinyData(3))
listed = {(entry.kind, entry.name, entry.distribution, entry.version)
          for kind in ("callbacks", "strategies") for entry in catalog.entries(kind)}
assert {("callbacks", "tally", "trainkit-tally", "0.3"), ("strategies", "tallied", "trainkit-tally", "0.3")} <= listed
assert imported() == [], imported()
""",
    )


def test_naming_its_callback_and_strategy_uses_them(site: Path) -> None:
    run(
        site,
        """
trainer = quiet_trainer(callbacks=["tally"], strategy="tallied")
assert sorted(imported()) == ["trainkit_tally", "trainkit_tally.callback", "trainkit_tally.strategy"], imported()
trainer.fit(TinyModule(), TinyData(3))
(tally,) = [callback for callback in trainer.callbacks if type(callback).__name__ == "Tally"]
assert (tally.batches, trainer.strategy.steps) == (3, 3)
""",
    )


def test_a_configuration_names_all_of_its_parts(site: Path, tmp_path: Path) -> None:
    overrides = ["trainer.max_epochs=1", f"trainer.default_root_dir={tmp_path}", "trainer.enable_progress_bar=false"]
    config = SOURCE / "config.yaml"
    run(
        site,
        f"""
import os
os.chdir({str(ROOT)!r})
import trainkit
trainer, module, data = trainkit.from_config({str(config)!r}, {overrides!r})
trainer.fit(module, datamodule=data)
names = [type(callback).__name__ for callback in trainer.callbacks]
assert "Tally" in names and "GradientNoise" in names, names
assert trainer.strategy.name == "tallied" and trainer.strategy.steps == trainer.global_step == 40
assert trainer.callback_metrics["val/accuracy"] > 0.8
""",
    )


def test_its_own_tests_pass(site: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    tested = subprocess.run(command, cwd=SOURCE, env=environment, capture_output=True, text=True)
    assert tested.returncode == 0 and "4 passed" in tested.stdout, tested.stdout


def test_its_exception_names_the_package_and_the_version(site: Path) -> None:
    run(
        site,
        """
tally = catalog.load("callbacks", "trainkit-tally:tally")(stop_after=2)
try:
    quiet_trainer(callbacks=[tally]).fit(TinyModule(), TinyData(3))
except RuntimeError as error:
    assert str(error) == "enough after batch 1"
    assert error.__notes__ == ["in plugin 'Tally' (trainkit-tally 0.3), hook on_train_batch_end"], error.__notes__
else:
    raise AssertionError("nothing was raised")
""",
    )


def test_its_names_are_unknown_once_it_is_removed(site: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(site, tmp_path / "site")
    (package,) = [each for each in distributions(path=[str(copy)]) if each.name == "trainkit-tally"]
    for file in package.files or []:
        Path(str(file.locate())).unlink(missing_ok=True)
    run(
        copy,
        """
for arguments in ({"callbacks": ["tally"]}, {"strategy": "tallied"}):
    try:
        quiet_trainer(**arguments)
    except UnknownNameError as error:
        assert error.name in ("tally", "tallied"), error
    else:
        raise AssertionError(f"{arguments} still works")
""",
    )
