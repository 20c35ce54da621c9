"""The directive ``public-names``: everything that ``trainkit`` and its packages announce, documented once."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import trainkit

# The main classes are documented with what they inherit, but not from these.
_FOREIGN = "Module, Exception, object"


class PublicNames(SphinxDirective):
    """Writes a section for the package itself and one for each of its public packages."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(_lines()), allow_section_headings=True)


def _lines() -> Iterator[str]:
    packages = {name: getattr(trainkit, name) for name in trainkit.__all__}
    packages = {name: value for name, value in packages.items() if isinstance(value, ModuleType)}
    documented: list[Any] = []
    yield from _section("trainkit", trainkit, [n for n in trainkit.__all__ if n not in packages], documented)
    for name, package in packages.items():
        public = getattr(package, "__all__", None) or _defined_in(package)
        yield from _section(f"trainkit.{name}", package, public, documented)


def _section(title: str, module: ModuleType, names: list[str], documented: list[Any]) -> Iterator[str]:
    yield from ("", title, "-" * len(title), "", *inspect.cleandoc(module.__doc__ or "").splitlines(), "")
    for name in names:
        value = getattr(module, name)
        directive = "autoclass" if inspect.isclass(value) else "autofunction" if inspect.isroutine(value) else None
        if directive is None or any(value is other for other in documented):
            continue
        documented.append(value)
        yield f".. {directive}:: {title}.{name}"
        if module is trainkit and directive == "autoclass":
            yield f"   :inherited-members: {_FOREIGN}"
        yield ""


def _defined_in(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": True}
