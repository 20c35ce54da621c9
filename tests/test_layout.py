"""Tests mirror the package: whoever breaks a file knows which tests to run."""

from __future__ import annotations

import ast
from pathlib import Path

import trainkit

SOURCE = Path(trainkit.__file__).parent
TESTS = Path(__file__).parent

OUTSIDE = {"compat"}
"""A mirror of another framework: its tests follow that one's layout."""


def sources() -> dict[str, Path]:
    paths = {path.relative_to(SOURCE).as_posix(): path for path in sorted(SOURCE.rglob("*.py"))}
    return {name: path for name, path in paths.items() if name.split("/")[0] not in OUTSIDE and has_logic(path)}


def has_logic(path: Path) -> bool:
    """Whether a file does anything: it has a function with a body, beyond what an ``__init__`` does to be a package."""
    if path.name.startswith("__"):
        return False
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    return any(isinstance(function, ast.Lambda) or not is_declared(function) for function in functions)


def is_declared(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function is only declared, as in a `Protocol`: its body is a docstring or dots."""
    return all(isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) for line in function.body)


def mirror_of(name: str) -> Path:
    path = TESTS / name
    return path.with_name(f"test_{path.name}")


def test_every_file_has_tests_of_its_own_name() -> None:
    assert [name for name in sources() if not mirror_of(name).exists()] == []


def test_files_that_only_declare_are_known_by_their_bodies() -> None:
    assert not has_logic(SOURCE / "types.py")
    assert not has_logic(SOURCE / "callbacks" / "progress_bar" / "display.py")
    assert not has_logic(SOURCE / "hooks" / "specs.py") or mirror_of("hooks/specs.py").exists()
    assert has_logic(SOURCE / "hooks" / "callback.py")
