from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import trainkit
from trainkit.cli.main import main

ROOT = Path(trainkit.__file__).parents[1]


@pytest.mark.slow
def test_the_project_trains_and_its_tests_pass(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["init", str(tmp_path / "moons")])
    assert result.exit_code == 0, result.output
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(command, cwd=tmp_path / "moons", env=environment, capture_output=True, text=True)

    fitted = run("trainkit", "fit", "config.yaml", "trainer.max_epochs=2", "trainer.accelerator=cpu")
    assert fitted.returncode == 0, fitted.stderr
    assert list((tmp_path / "moons" / "runs").rglob("*.ckpt"))
    tested = run("pytest", "-q", "-p", "no:cacheprovider", "-n0", ".")
    assert tested.returncode == 0 and "2 passed" in tested.stdout, tested.stdout


def test_a_folder_with_files_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = CliRunner().invoke(main, ["init", str(tmp_path)])
    assert result.exit_code == 2 and "is there already" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "mine.txt").unlink()
    assert CliRunner().invoke(main, ["init", str(tmp_path)]).exit_code == 0
