"""One character wrong in a key or a name, anywhere in a configuration of the examples: it is refused.

What no check can know: the names of callbacks that say their plugin (``use``, ``_target_``), what is under ``shared``,
and what a class takes by ``**kwargs`` or without an annotation, which ``trainkit config --check`` lists.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import trainkit
from trainkit.config import build, read
from trainkit.errors import ConfigError

ROOT = Path(trainkit.__file__).parents[1]
FILES = sorted(ROOT.glob("examples/**/*.yaml"))


def is_run(file: Path) -> bool:
    sections = yaml.safe_load(file.read_text().partition("\n---")[0])
    # The parts of a package are names only where it is installed.
    return isinstance(sections, dict) and "module" in sections and file.parent.name != "plugin_package"


def mutations(name: str) -> Iterator[str]:
    """Yield ``name`` with one character too many, too few, another one, and two exchanged, at three places."""
    for at in sorted({0, len(name) // 2, len(name) - 1}):
        yield name[:at] + "q" + name[at:]
        yield name[:at] + name[at + 1 :]
        yield name[:at] + "q" + name[at + 1 :]
        yield name[:at] + name[at : at + 2][::-1] + name[at + 2 :]


def places(sections: dict[str, Any]) -> Iterator[tuple[list[str], str]]:
    """Yield where there is a key or a name that can be checked, and what it is: a key, or the name of a plugin."""
    for section, value in sections.items():
        yield [section], "key"
        for key, inner in value.items() if isinstance(value, dict) and section != "shared" else ():
            is_free = section == "callbacks" and isinstance(inner, dict) and {"use", "_target_"} & inner.keys()
            if not is_free:
                yield [section, key], "key"
            for below in inner if isinstance(inner, dict) else ():
                yield [section, key, below], "name" if below == "use" else "key"
                if below == "use":
                    yield [section, key, below], "key"


def mutated(sections: dict[str, Any], path: list[str], kind: str, name: str) -> dict[str, Any]:
    changed = copy.deepcopy(sections)
    holder: Any = changed
    for part in path[:-1]:
        holder = holder[part]
    if kind == "name":
        holder[path[-1]] = name
    else:
        value = holder.pop(path[-1])
        holder[name] = value
    return changed


@pytest.mark.parametrize("file", [file for file in FILES if is_run(file)], ids=lambda file: str(file.relative_to(ROOT)))
def test_a_slip_is_refused_with_what_was_meant(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    sections = yaml.safe_load(file.read_text())
    build(read(sections, ["trainer.accelerator=cpu"]))
    silent, poor = [], []
    for path, kind in places(sections):
        meant = sections[path[0]][path[1]]["use"] if kind == "name" else path[-1]
        for given in set(mutations(meant)) - {meant, ""}:
            try:
                build(read(mutated(sections, path, kind, given), ["trainer.accelerator=cpu"]))
            except ConfigError as error:
                told = "\n".join([str(error), *getattr(error, "__notes__", ())])
                # A key that has to be there may be missed first.
                if f"did you mean {meant!r}?" not in told and f"write        {meant}: " not in told:
                    poor.append((".".join(path), given, str(error)))
            else:
                silent.append((".".join(path), given))
    assert silent == []
    assert poor == []
