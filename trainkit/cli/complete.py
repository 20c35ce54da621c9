"""What a shell completes with the tab key: configuration files, and the keys of those that were named before.

It has to answer at once, so nothing here imports torch, nor the user's code. What cannot be read is passed over.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import BashComplete

import trainkit
from trainkit.plugins import catalog
from trainkit.storage.yaml_text import load_yaml

SECTIONS = ("seed", "module", "data", "trainer", "callbacks", "ckpt_path", "shared", "plugins")
_VALUES = ("seed", "ckpt_path")
_MAX_BYTES = 2**20


class Bash(BashComplete):
    """click's completion, which sets no space behind what is only begun: a key, a folder."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", "COMPREPLY+=($value)\n            [[ $value == *[=./] ]] && compopt -o nospace"
    )


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the configuration files, and folders, that begin so."""
    folder, begun = os.path.split(incomplete)
    found = []
    with suppress(OSError):
        for entry in sorted(os.scandir(folder or "."), key=lambda each: each.name):
            if entry.name.startswith(begun) and (begun.startswith(".") or not entry.name.startswith(".")):
                path = os.path.join(folder, entry.name)
                if entry.is_dir():
                    found.append(f"{path}/")
                elif entry.name.endswith((".yaml", ".yml")):
                    found.append(path)
    return found


def words(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return what may follow a first file: further files, and keys of those so far, up to the next dot."""
    sign = incomplete[:1] if incomplete[:1] in ("+", "~") else ""
    begun, behind = incomplete[len(sign) :], "" if sign == "~" else "="
    given = (ctx.params.get("config"), *(ctx.params.get("overrides") or ()))
    sections = _merged([word for word in given if word and word.endswith((".yaml", ".yml"))])
    found = []
    for key in _keys(sections):
        if key.startswith(begun) and key != begun:  # a section that is written out has nothing to add
            rest = key[len(begun) :]
            step, dot, _ = rest.partition(".")
            found.append(f"{sign}{begun}{step}{dot or ('' if key.endswith('.') else behind)}")
    return [*dict.fromkeys(found), *([] if sign else files(ctx, param, incomplete))]


def callback_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of callbacks that begin so."""
    return [name for name in _callbacks() if name.startswith(incomplete)]


def packages(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the installed packages with plugins that begin so."""
    found = {entry.distribution for kind in catalog.SINGULAR for entry in catalog.entries(kind)}
    return sorted(name for name in found if name.startswith(incomplete))


def hooks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the hooks that begin so."""
    tree = _parsed("hooks/specs.py")
    names = (node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list)
    return [name for name in names if name.startswith(incomplete)]


def _keys(sections: dict[str, Any]) -> Iterator[str]:
    """Yield the key paths that can be set; the name of a section whose keys are not known ends with a dot."""
    for section in SECTIONS:
        yield section if section in _VALUES else f"{section}."
    yield from (f"trainer.{name}" for name in _trainer_arguments())
    yield from (f"callbacks.{name}" for name in _callbacks())
    yield from _paths(sections)


def _paths(value: Any, above: str = "") -> Iterator[str]:
    for name, item in value.items() if isinstance(value, dict) else ():
        if isinstance(name, str):
            path = f"{above}.{name}" if above else name
            if above:
                yield path
            yield from _paths(item, path)


def _merged(paths: list[str]) -> dict[str, Any]:
    """Return the sections of several files, each with all that any of them says."""
    found: dict[str, Any] = {}
    for path in paths:
        with suppress(OSError, ValueError):  # UnicodeDecodeError is one
            if Path(path).is_file() and Path(path).stat().st_size < _MAX_BYTES:
                sections: Any = load_yaml(Path(path).read_text(encoding="utf-8"))
                _merge(found, sections if isinstance(sections, dict) else {})
    return found


def _merge(base: dict[str, Any], later: dict[str, Any]) -> None:
    for name, value in later.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            _merge(base[name], value)
        else:
            base[name] = value


def _callbacks() -> list[str]:
    return sorted({entry.name for entry in catalog.entries("callbacks")})


def _trainer_arguments() -> list[str]:
    """Return the arguments of the Trainer, read off its source: to import it would import torch."""
    for node in ast.walk(_parsed("trainer/trainer.py")):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return [each.arg for each in node.args.kwonlyargs if each.arg != "callbacks"]
    return []


def _parsed(path: str) -> ast.Module:
    return ast.parse((Path(trainkit.__file__).parent / path).read_text(encoding="utf-8"))
