from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import trainkit
from tests.strategies.started import Ranks

ROOT = Path(trainkit.__file__).parents[1]
PAGES = Path(__file__).parent / "explained"


def without_ends(text: str) -> str:
    """Return ``text`` without what sums of floats may differ in between machines, and lines of torch's own."""
    return "\n".join(line.rstrip() for line in text.splitlines() if not line.startswith("[W")).strip()


@pytest.mark.slow
def test_the_page_of_the_example_of_digits(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trainkit", "explain", str(ROOT / "examples/digits/config.yaml")]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    overrides = ["trainer.default_root_dir=runs/digits", "trainer.accelerator=cpu"]
    done = subprocess.run([*command, *overrides], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert without_ends(done.stdout) == without_ends((PAGES / "digits.txt").read_text())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_page_of_two_ranks_is_told_by_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    arguments = ["explain", str(ROOT / "examples/digits/config.yaml"), "trainer.default_root_dir=runs/digits"]
    first, second = Ranks(str(PAGES / "rank.py"), *arguments, "trainer.accelerator=cpu").ended()
    assert (first.code, second.code) == (0, 0), (first.text, second.text)
    assert without_ends(first.text) == without_ends((PAGES / "two_ranks.txt").read_text())
    assert without_ends(second.text) == ""
    assert not list(tmp_path.iterdir())


def test_a_dry_run_tells_the_same_and_trains_nothing(trainkit_in_project: Callable[..., Result]) -> None:
    explained = trainkit_in_project("explain", "config.yaml")
    tried = trainkit_in_project("fit", "config.yaml", "--dry-run")
    assert explained.exit_code == tried.exit_code == 0, explained.output
    assert explained.output == tried.output
    assert explained.output.startswith("TinyModule: what trainer.fit() is going to do\n")
    assert not [path for path in Path().iterdir() if path.is_dir() and path.name != "__pycache__"]


def test_a_dry_run_that_resumes_tells_what_is_left(trainkit_in_project: Callable[..., Result]) -> None:
    trainkit_in_project("fit", "config.yaml")
    told = trainkit_in_project("fit", "config.yaml", "trainer.max_epochs=5", "--resume", "--dry-run")
    assert told.exit_code == 0, told.output
    assert "3 epochs, 12 batches, 12 updates" in told.output


def test_what_fit_would_refuse_is_refused(trainkit_in_project: Callable[..., Result]) -> None:
    wrong = trainkit_in_project("explain", "config.yaml", "trainer.val_check_interval=100")
    assert wrong.exit_code == 2 and "val_check_interval" in wrong.output
