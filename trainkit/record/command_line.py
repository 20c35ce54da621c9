"""The command that has started a program, without the passwords in it."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Iterator

from trainkit.reflection import HIDDEN, names_secret, without_credentials

_NAMED = re.compile(r"([\w.-]+)['\"]?\s*\+?[:=]")
"""A name and what sets it, within an argument such as ``data={user: me, token: abc}``."""


def command_line(words: Iterable[str]) -> str:
    """Return ``words`` as one line for a shell. What has the name of a password or the like is not in it.

    Args:
        words: The program and its arguments, as in ``sys.orig_argv``.
    """
    return shlex.join(without_secrets(words))


def own_command() -> list[str]:
    """Return the program and its arguments. In a process that `multiprocessing` has made, they are those of its parent.

    Such a process is called with a line of code of Python's own, and knows the arguments of its parent.
    """
    own = list(sys.orig_argv)
    if any(word.startswith("from multiprocessing.") for word in own):
        return [*own[:1], *sys.argv]
    return own


def without_secrets(words: Iterable[str]) -> Iterator[str]:
    """Yield ``words`` of a command, such as overrides, without the values of what has the name of a password."""
    hides_next = False
    for word in words:
        name, equals, _ = word.partition("=")
        # A password may begin as an option does; one of two dashes is an option that takes the place of a value.
        if hides_next and not word.startswith("--"):
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
    """Return whether an option, or the path of a key, has the name of a password in it."""
    return any(map(names_secret, name.strip("-+~").split(".")))
