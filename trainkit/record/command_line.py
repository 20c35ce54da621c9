"""The command that has started a program, without the passwords in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from trainkit.reflection import HIDDEN, names_secret, without_credentials

_NAMED = re.compile(r"([\w.-]+)['\"]?\s*[:=]")
"""A name and what sets it, within an argument such as ``data={user: me, token: abc}``."""


def command_line(words: Iterable[str]) -> str:
    """Return ``words`` as one line for a shell. What has the name of a password or the like is not in it.

    Args:
        words: The program and its arguments, as in ``sys.orig_argv``.
    """
    return shlex.join(_shown(words))


def _shown(words: Iterable[str]) -> Iterator[str]:
    hides_next = False
    for word in words:
        name, equals, _ = word.partition("=")
        if hides_next and not word.startswith("-"):
            yield HIDDEN
            hides_next = False
            continue
        hides_next = not equals and word.startswith("-") and _is_secret(word)
        if equals and _is_secret(name):
            yield f"{name}={HIDDEN}"
        elif any(_is_secret(found) for found in _NAMED.findall(word)):
            yield HIDDEN
        else:
            yield without_credentials(word)


def _is_secret(name: str) -> bool:
    """Return whether an option, or the path of a key, ends with the name of a password."""
    return names_secret(name.lstrip("-+").rpartition(".")[2].replace("-", "_"))
