from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def in_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory from which the examples can be imported."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def accuracy_in(output: str) -> float:
    found = re.search(r"test/accuracy\W+([\d.]+)", output)
    assert found is not None, output
    return float(found[1])


@pytest.mark.slow
def test_configuration_reaches_its_accuracy(in_project: Path) -> None:
    config = str(ROOT / "examples/digits/config.yaml")
    run("-m", "trainkit", "fit", config)

    output = run("-m", "trainkit", "test", config, "ckpt_path=last")

    assert accuracy_in(output) > 0.96
    assert list(in_project.glob("runs/digits/**/events.out.tfevents.*"))
    assert list(in_project.glob("runs/digits/**/config.yaml"))


@pytest.mark.slow
def test_plain_python_reaches_the_same(in_project: Path) -> None:
    output = run("-m", "examples.digits.train")

    assert accuracy_in(output) > 0.96


@pytest.mark.slow
def test_other_optimizers_reach_it_too(in_project: Path) -> None:
    output = run("-m", "examples.digits.optimizers")

    accuracies = re.findall(r"(\w+) +test accuracy ([\d.]+)", output)
    assert [name for name, _ in accuracies] == ["Digits", "MuonDigits", "ScheduleFreeDigits"]
    assert all(float(accuracy) > 0.95 for _, accuracy in accuracies), output
