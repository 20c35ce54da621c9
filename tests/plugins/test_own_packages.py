"""The packages in ``plugins/``: each installs, is listed, and passes its own tests where its client is installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trainkit

pytestmark = pytest.mark.slow
ROOT = Path(trainkit.__file__).parents[1]
PACKAGES = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_the_package_installs_and_passes_its_own_tests(package: Path, tmp_path: Path) -> None:
    source, site = tmp_path / package.name, tmp_path / "site"
    shutil.copytree(package, source, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", site, source], check=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True)

    # The client is imported when a run begins, not when the package is.
    listed = run("trainkit", "plugins", "--from", package.name, "--check")
    assert listed.returncode == 0 and f"{package.name} 0.1.0  imports" in listed.stdout, listed.stdout + listed.stderr
    client = package.name.removeprefix("trainkit-")
    if importlib.util.find_spec(client) is None:
        pytest.skip(f"{client} is not installed, with which its tests run")
    tested = run("pytest", "-q", "-p", "no:cacheprovider")
    assert tested.returncode == 0, tested.stdout


def test_both_are_here() -> None:
    assert {"trainkit-wandb", "trainkit-mlflow"} <= {package.name for package in PACKAGES}
