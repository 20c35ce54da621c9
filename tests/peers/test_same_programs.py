"""The programs give what they give with Lightning."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tests.programs.test_programs import REACHES

PROGRAMS = Path(__file__).parents[1] / "programs"


def run(name: str, package: str, root: Path) -> dict[str, float]:
    """Run a program with another package in the place of this one."""
    source = (PROGRAMS / f"{name}.py").read_text().replace("trainkit.compat.lightning", package)
    program: Any = types.ModuleType(f"{name}_with_{package.replace('.', '_')}")
    sys.modules[program.__name__] = program
    try:
        exec(compile(source, f"{name}.py", "exec"), vars(program))
        root.mkdir()
        results: dict[str, float] = program.main(root)
    finally:
        del sys.modules[program.__name__]
    return results


@pytest.mark.parametrize("name", REACHES)
def test_a_program_gives_the_same_numbers_with_lightning(
    name: str, lightning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = run(name, "trainkit.compat.lightning", tmp_path / "own")
    theirs = run(name, lightning.__name__, tmp_path / "theirs")
    assert own == pytest.approx(theirs, rel=1e-4, abs=1e-6)
