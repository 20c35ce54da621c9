"""An import points down, or to the same layer; parts of different kinds do not know each other; there are no cycles."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import trainkit

ROOT = Path(trainkit.__file__).parent

LAYERS: list[set[str]] = [
    {"errors", "types", "progress"},
    {
        "module",
        "data",
        "metrics",
        "optim",
        "hparams",
        "of_class",
        "overrides",
        "seed",
        "settings",
        "from_checkpoint",
        "rank_zero",
        "modes",
        "export",
    },
    {"hooks", "checkpoint"},
    {"callbacks", "strategies", "precision", "plugins"},
    {"loops"},
    {"trainer", "session", "readings", "assembly"},
    {"config", "cli", "testing", "compat"},
]
LAYER_OF = {part: layer for layer, parts in enumerate(LAYERS) for part in parts}
# Reading and writing files needs nothing of what is in them, and TrainModule.load_from_checkpoint does just that.
LAYER_OF_FILE = {f"trainkit.checkpoint.{name}": 1 for name in ("files", "atomic_write", "remote", "storable")}

KINDS = {"callbacks", "strategies", "precision"}


class Import(NamedTuple):
    source: str
    target: str
    line: str
    only_for_types: bool


# They know everything: one resolves the public names, the other starts the command line.
ENTRY_POINTS = {"trainkit", "trainkit.__main__"}


def part_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def layer_of(name: str) -> int | None:
    return LAYER_OF_FILE.get(name, LAYER_OF.get(part_of(name)))


def module_names() -> dict[str, Path]:
    names = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


MODULES = module_names()


def imports_of(name: str, path: Path) -> Iterator[Import]:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
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


def points_up(found: Import) -> bool:
    if found.only_for_types and found.line.endswith("import Trainer"):
        return False
    return (layer_of(found.source) or 0) < (layer_of(found.target) or 0)


def joins_two_kinds(found: Import) -> bool:
    return {part_of(found.source), part_of(found.target)} <= KINDS and part_of(found.source) != part_of(found.target)


def test_every_file_has_a_layer() -> None:
    assert [name for name in MODULES if layer_of(name) is None and name not in ENTRY_POINTS] == []


def test_every_folder_is_a_package() -> None:
    assert [path for path in MODULES.values() if not path.with_name("__init__.py").exists()] == []


@pytest.mark.parametrize("is_wrong", [points_up, joins_two_kinds])
def test_no_import(is_wrong: Callable[[Import], bool]) -> None:
    wrong = [found.line for found in IMPORTS if found.source not in ENTRY_POINTS and is_wrong(found)]

    assert wrong == [], "\n".join(["", *dict.fromkeys(wrong)])


def test_no_imports_form_a_cycle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES if name != "trainkit"}
    for found in IMPORTS:
        if found.source in graph and not found.only_for_types:
            # Importing a module imports the package around it first.
            package = found.target.rpartition(".")[0]
            graph[found.source] |= {found.target, package} & graph.keys() - {found.source}
            if f"{found.source}.".startswith(f"{package}."):
                graph[found.source].discard(package)

    assert list(TopologicalSorter(graph).static_order())
