"""A new environment, in which pip installs our packages side by side, uses them, and removes them.

It sees the packages of the running one by a ``.pth`` file, so that torch is not installed anew.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import trainkit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(trainkit.__file__).parents[1]
SOURCES = {
    "trainkit-tally": ROOT / "examples" / "plugin_package",
    "trainkit-wandb": ROOT / "plugins" / "trainkit-wandb",
    "trainkit-mlflow": ROOT / "plugins" / "trainkit-mlflow",
}
CLIENTS = {"wandb": "{use: wandb, offline: true}", "mlflow": "{use: mlflow}"}

IN_PYTHON = """
import sys
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit_wandb import WandbLogger
from trainkit_mlflow import MLflowLogger
assert not {"wandb", "mlflow"} & set(sys.modules), "a client is imported when a run begins"
trainer = quiet_trainer(strategy="tallied", callbacks=["tally", "gradient_noise"])
trainer.fit(TinyModule(), TinyData(3))
assert trainer.strategy.steps == 3
"""


class Environment:
    """A virtual environment, which sees the packages of this one."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self._python = folder / "bin" / "python"
        (own,) = folder.glob("lib/python*/site-packages")
        paths = [str(Path(path or Path.cwd()).resolve()) for path in (str(ROOT), *sys.path)]
        (own / "of_the_running_one.pth").write_text("\n".join(dict.fromkeys(paths)))

    def run(self, *arguments: str | Path, cwd: Path, fails: bool = False) -> str:
        """Run Python with ``arguments``, and return what it prints."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment = kept | {"OMP_NUM_THREADS": "1", "WANDB_SILENT": "true", "MPLCONFIGDIR": str(cwd)}
        command = [self._python, *arguments]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def pip(self, *arguments: str | Path, cwd: Path) -> None:
        """Run pip, which downloads nothing."""
        self.run("-m", "pip", "--disable-pip-version-check", "--quiet", *arguments, cwd=cwd)


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("fresh") / "venv")
    copies = tmp_path_factory.mktemp("sources")  # so that nothing is left beside the sources
    for name, source in SOURCES.items():
        shutil.copytree(source, copies / name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index"]
    environment.pip("install", *options, *(copies / name for name in SOURCES), cwd=copies)
    return environment


def config_of(folder: Path, loggers: list[str]) -> Path:
    (folder / "all.yaml").write_text(
        "seed: 7\n"
        "module: {_target_: trainkit.testing.TinyModule}\n"
        "data: {_target_: models.Data}\n"
        "callbacks: {tally: {}, gradient_noise: {scale: 0.01}}\n"
        "trainer:\n  {max_epochs: 1, strategy: tallied, accelerator: cpu, enable_progress_bar: false,\n"
        f"   default_root_dir: runs, logger: [{', '.join(['{use: csv}', *loggers])}]}}\n"
    )
    (folder / "models.py").write_text(
        "import trainkit\nfrom trainkit.testing import TinyData\n\n"
        "class Data(trainkit.DataModule):\n"
        "    def train_dataloader(self):\n        return TinyData(4)\n"
    )
    return folder / "all.yaml"


def test_all_parts_are_used_from_python_and_from_a_configuration(environment: Environment, tmp_path: Path) -> None:
    listed = environment.run("-m", "trainkit", "plugins", "--check", cwd=tmp_path)
    assert all(f"{name} " in listed for name in SOURCES) and "fails" not in listed
    environment.run("-c", IN_PYTHON, cwd=tmp_path)
    there = [text for name, text in CLIENTS.items() if importlib.util.find_spec(name)]
    config = config_of(tmp_path, there)
    environment.run("-m", "trainkit", "fit", config, cwd=tmp_path)
    told = environment.run("-m", "trainkit", "checkpoint", "show", *tmp_path.rglob("last.ckpt"), cwd=tmp_path)
    assert "Tally" in told
    # One that is not there any more is told by its package, and the run goes on without it.
    goes_on = ["ckpt_path=last", "trainer.max_epochs=2", "callbacks.tally=null"]
    told = environment.run("-m", "trainkit", "fit", config, *goes_on, cwd=tmp_path)
    assert "Tally (trainkit-tally 0.3)" in told


def test_what_pip_removes_is_unknown_and_a_run_without_it_goes_on(environment: Environment, tmp_path: Path) -> None:
    config = config_of(tmp_path, [])
    environment.run("-m", "trainkit", "fit", config, cwd=tmp_path)
    environment.pip("uninstall", "--yes", *SOURCES, cwd=tmp_path)
    listed = environment.run("-m", "trainkit", "plugins", cwd=tmp_path)
    assert not any(name in listed for name in SOURCES)
    told = environment.run("-m", "trainkit", "fit", config, cwd=tmp_path, fails=True)
    assert "unknown callback 'tally'" in told
    without = ["callbacks.tally=null", "callbacks.gradient_noise=null", "trainer.strategy=auto"]
    told = environment.run(
        "-m", "trainkit", "fit", config, *without, "ckpt_path=last", "trainer.max_epochs=2", cwd=tmp_path
    )
    assert "states of plugins that are not in this run: Tally (trainkit-tally 0.3)" in told
