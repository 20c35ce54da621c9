"""Packages form one strict order: an import, lazy ones included, stays in its package or points to a lower one.

``pytest -s tests/test_layers.py`` prints the order.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import trainkit

ROOT = Path(trainkit.__file__).parent

ORDER = [
    *(
        "start_folder",
        "printable",
        "errors",
        "types",
        "progress",
        "reflection",
        "origin",
        "made_for",
        "output",
        "console",
        "quantity",
        "checks",
        "interval",
    ),
    *("generators", "seed"),
    *("hooks", "storage", "batch", "metrics", "module"),
    *("precision", "strategies", "data", "checkpoint", "plugins", "record"),
    *("loops", "loggers", "callbacks", "profilers"),
    "trainer",
    *("config", "testing", "pytest_plugin", "doctor", "cli", "compat"),
]
"""Lowest first. A file at the top level is a package of one."""

KINDS = {"callbacks", "precision", "strategies"}
"""Kinds of parts: those of one kind know nothing of another."""

ENTRY_POINTS = {"trainkit", "trainkit.__main__"}
"""They know everything: one resolves the public names when they are used, the other starts the command line."""


class Import(NamedTuple):
    source: str
    target: str
    line: str
    is_for_types: bool


def package_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def module_names() -> dict[str, Path]:
    names = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


MODULES = module_names()


def imports_of(name: str, path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports of trainkit in full"
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        for target in targets:
            if target.split(".")[0] == "trainkit":
                line = f"{path.relative_to(ROOT.parent)}:{node.lineno}: {ast.unparse(node)}"
                yield Import(name, target if target in MODULES else target.rpartition(".")[0], line, node in for_types)


IMPORTS = [found for name, path in MODULES.items() for found in imports_of(name, path)]
# `Trainer` and `TrainModule` in signatures of hooks, so that these are typed: nothing is imported when they run.
RUNNING = [
    found
    for found in IMPORTS
    if found.source not in ENTRY_POINTS
    and not (found.is_for_types and found.line.endswith(("import Trainer", "import TrainModule")))
]


def lines(wrong: list[Import]) -> str:
    return "\n".join(["", *dict.fromkeys(found.line for found in wrong)])


def test_every_package_has_its_place() -> None:
    assert {package_of(name) for name in MODULES if name not in ENTRY_POINTS} == set(ORDER)


def test_every_folder_is_a_package() -> None:
    assert [path for path in MODULES.values() if not path.with_name("__init__.py").exists()] == []


def test_an_import_points_down() -> None:
    place = {package: index for index, package in enumerate(ORDER)}
    wrong = [found for found in RUNNING if place.get(package_of(found.target), -1) > place[package_of(found.source)]]

    assert wrong == [], lines(wrong)


def test_no_part_knows_a_part_of_another_kind() -> None:
    wrong = [
        found
        for found in RUNNING
        if {package_of(found.source), package_of(found.target)} <= KINDS
        and package_of(found.source) != package_of(found.target)
    ]

    assert wrong == [], lines(wrong)


def test_packages_form_no_cycle(capsys: pytest.CaptureFixture[str]) -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for found in RUNNING:
        source, target = package_of(found.source), package_of(found.target)
        graph[source].update({target} - {source, ""})

    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"packages import each other: {' -> '.join(error.args[1])}")
    print("packages, lowest first:", " ".join(order))


def test_files_form_no_cycle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES if name != "trainkit"}
    for found in RUNNING:
        if found.source in graph and not found.is_for_types:
            # Importing a module imports the package around it first.
            package = found.target.rpartition(".")[0]
            graph[found.source] |= {found.target, package} & graph.keys() - {found.source}
            if f"{found.source}.".startswith(f"{package}."):
                graph[found.source].discard(package)

    assert list(TopologicalSorter(graph).static_order())
