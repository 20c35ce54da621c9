"""The directive ``hooks``: every hook of ``trainkit/hooks/specs.py``, with the order and the headings of that file."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from trainkit.hooks import specs

_HEADING_OR_HOOK = re.compile(r"^# (?P<heading>.+(?:\n# .+)*)$|^def (?P<hook>\w+)\(", re.MULTILINE)


class Hooks(SphinxDirective):
    """Writes one section per heading and one entry per hook; nothing is repeated by hand."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(inspect.getsourcefile(specs))
        return self.parse_text_to_nodes("\n\n".join(self._blocks()), allow_section_headings=True)

    def _blocks(self) -> Iterator[str]:
        for found in _HEADING_OR_HOOK.finditer(inspect.getsource(specs)):
            if found["heading"]:
                heading, _, explanation = found["heading"].replace("\n# ", " ").partition(": ")
                yield f"## {heading}"
                if explanation:
                    yield explanation[0].upper() + explanation[1:]
            elif found["hook"] in specs.HOOKS:
                yield _entry(found["hook"])


def _entry(hook: str) -> str:
    signature = f"{hook}({', '.join(specs.HOOKS[hook])})"
    return f":::{{py:function}} {signature}\n:no-index-entry:\n\n{inspect.getdoc(getattr(specs, hook))}\n:::"


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("hooks", Hooks)
    return {"parallel_read_safe": True}
