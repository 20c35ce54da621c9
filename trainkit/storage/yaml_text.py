"""Loading YAML within limits: it may say in a few lines what no memory holds, or what never ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import yaml

T = TypeVar("T")

MAX_REPEATED = 100_000
"""How many values may come about by aliases. Each stands for a copy, and aliases of aliases multiply."""

_LONGEST_NUMBER = 3000
"""The most characters of a whole number. Python makes no text of one with more than 4300 digits."""


def load_yaml(text: str, load: Callable[[str], T] = yaml.safe_load) -> T:
    """Return what ``load`` makes of a YAML text.

    Raises:
        ValueError: If it is no YAML, holds itself, is nested too deeply or repeats too much; it says which in a line.
    """
    try:
        wrong = _excess(text)
        if not wrong:
            return load(text)
    except RecursionError:
        wrong = "it is nested too deeply"
    # Values that do not fit their tags fail in any way.
    except Exception as error:
        raise ValueError(first_line(error)) from error
    raise ValueError(wrong)


def first_line(error: Exception) -> str:
    """Return the message of an error without the lines in which OmegaConf and YAML show their own state."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} (line {error.problem_mark.line + 1})"
    # By exact type: OmegaConf's own, which say something, are of subclasses.
    if type(error) in (KeyError, AttributeError):
        return "a value does not fit its tag"
    return str(error).partition("\n")[0]


def _excess(text: str) -> str:
    """Return what is beyond the limits in a YAML text, or "": it is parsed, and nothing is made of it yet."""
    sizes: dict[str, int] = {}  # of what has a name, aliases within counted as what they stand for
    opened: list[str | None] = []  # the names of the containers around
    counts = [0]  # for each of these, how many values are in it so far
    repeated = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append(event.anchor)
            counts.append(1)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, count = opened.pop(), counts.pop()
            sizes |= {anchor: count} if anchor else {}
            counts[-1] += count
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > _LONGEST_NUMBER and _is_whole(event):
                return f"it holds a whole number of {len(event.value)} characters (line {event.start_mark.line + 1})"
            sizes |= {event.anchor: 1} if event.anchor else {}
            counts[-1] += 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in opened:
                return f"*{event.anchor} holds itself (line {event.start_mark.line + 1})"
            size = sizes.get(event.anchor, 1)
            counts[-1] += size
            repeated += size
            if repeated > MAX_REPEATED:
                return f"aliases such as *{event.anchor} stand for more than {MAX_REPEATED} values"
    return ""


def _is_whole(scalar: yaml.ScalarEvent) -> bool:
    tag = scalar.tag or yaml.SafeLoader("").resolve(yaml.ScalarNode, scalar.value, scalar.implicit)
    return bool(tag == "tag:yaml.org,2002:int")
