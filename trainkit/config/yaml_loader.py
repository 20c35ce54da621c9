"""The YAML of configurations. As YAML 1.2 has it, ``010`` and ``1:00:00`` are texts, and ``1e-3`` is a number."""

from __future__ import annotations

import re
from typing import Any

import yaml

from trainkit.storage.yaml_text import load_yaml


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Reads plain values; a key that is there twice is an error, of which one would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            # `<<` may be there more than once, and takes the place of no key.
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    problem = f"found duplicate key {key.value}"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add((key.tag, key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0o[0-7]+|0b[01_]+)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:(?:0|[1-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
        r"|(?:0|[1-9][0-9_]*)[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    try:
        # An explicit tag may stand before anything.
        return int(text.replace("_", ""), 0)
    except ValueError as error:
        raise ValueError(f"{text!r} is no whole number") from error


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def parse(text: str) -> Any:
    """Return what is in a YAML text.

    Raises:
        ValueError: If it is no YAML, or beyond the limits of `load_yaml`; it says which in one line.
    """
    try:
        return load_yaml(text, lambda text: yaml.load(text, _Loader))
    except ValueError as error:
        line = _unquoted_interpolation(text)
        if line is None:
            raise
        raise ValueError(
            f"{error}\n    to do        put ${{...}} into quotes where it is within braces or brackets: "
            f'{{size: "${{module.width}}"}}, in line {line}'
        ) from error


def _unquoted_interpolation(text: str) -> int | None:
    """Return the first line in which an interpolation stands unquoted within a flow mapping, which is no YAML."""
    lines = enumerate(text.splitlines(), 1)
    return next((number for number, line in lines if re.search(r"[{\[][^'\"#]*[:,\[{]\s*[^'\"{}\s]*\$\{", line)), None)
