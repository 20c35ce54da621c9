"""What can be imported is what is announced, and announcing it costs nothing."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import trainkit

READS_YAML = {"config", "from_config"}
PACKAGES = ["trainkit", *(m.name for m in pkgutil.iter_modules(trainkit.__path__, "trainkit.") if m.ispkg)]


def names_bound_after_import(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("package", PACKAGES)
def test_every_announced_name_is_reachable(package: str) -> None:
    module = importlib.import_module(package)
    announced = getattr(module, "__all__", [])

    assert len(announced) == len(set(announced))
    assert [name for name in announced if not hasattr(module, name)] == []


def test_reachable_names_are_announced() -> None:
    for name in trainkit.__all__:
        getattr(trainkit, name)
    used_inside = {"annotations", "TYPE_CHECKING", "Any"}
    reachable = {name for name, value in vars(trainkit).items() if name[0] != "_" and not inspect.ismodule(value)}

    assert reachable - used_inside <= set(trainkit.__all__)
    assert sorted(trainkit.__all__) == dir(trainkit)


def test_surface_stays_small() -> None:
    assert len(trainkit.__all__) <= 40


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'trainkit' has no attribute 'Trianer'"):
        trainkit.Trianer  # noqa: B018


def test_importing_trainkit_imports_nothing_of_weight() -> None:
    loaded = names_bound_after_import("import trainkit")

    assert {name for name in loaded if name.startswith("trainkit")} == {"trainkit", "trainkit.start_folder"}
    assert not loaded & {"torch", "pluggy", "omegaconf", "numpy"}


def test_using_the_trainer_leaves_optional_packages_alone() -> None:
    loaded = names_bound_after_import("import trainkit; trainkit.Trainer, trainkit.TrainModule, trainkit.callbacks")

    assert "torch" in loaded
    assert not loaded & {"torchmetrics", "torchvision", "tensorboard", "sklearn", "pandas", "omegaconf", "click"}


@pytest.mark.slow
def test_whatever_trains_imports_nothing_beyond_torch_but_pluggy() -> None:
    names = ", ".join(f"trainkit.{name}" for name in trainkit.__all__ if name not in READS_YAML)
    loaded = names_bound_after_import(f"import torch, trainkit; {names}")
    beyond_torch = loaded - names_bound_after_import("import torch")

    # Parts of torch that it leaves alone, such as its compiler, take seconds: there is none among them.
    # What of Python's own library torch imports already differs from version to version.
    assert {name.partition(".")[0] for name in beyond_torch} - sys.stdlib_module_names == {"trainkit", "pluggy"}


@pytest.mark.parametrize("package", ["trainkit", "trainkit.callbacks", "trainkit.loggers"])
def test_type_checkers_know_every_name_that_is_imported_when_it_is_used(package: str) -> None:
    module = importlib.import_module(package)
    tree = ast.parse(inspect.getsource(module))
    for_types = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imported = {
        alias.asname or alias.name
        for block in for_types
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert imported == set(module.__all__) - {"__version__"}
    # Defined for type checkers too, it would make every misspelt name an ``Any``.
    assert not any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body)
