"""The error for a function that cannot join a hook: it shows the function, and what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from trainkit.errors import HookError


def unbindable(
    problem: str, function: object, *, provided: Iterable[str] = (), remedy: str = "", meant: str | None = None
) -> HookError:
    """Return the error for a function that cannot be bound.

    Args:
        problem: A sentence that names the function and says what is wrong.
        function: The function, whose place in the user's files is shown.
        provided: The arguments of the hook, where the problem is one of arguments.
        remedy: What to write instead.
        meant: The nearest name that exists.
    """
    lines = [problem]
    code = code_of(function)
    if code is not None:
        file, here = Path(code.co_filename), Path.cwd()
        file = file.relative_to(here) if file.is_relative_to(here) else file
        lines.append(f"    defined at   {file}:{code.co_firstlineno}")
    if provided:
        lines.append(f"    provided     {', '.join(provided)}")
    if remedy:
        lines.append(f"    instead      {remedy}")
    if meant is not None:
        lines.append(f"    did you mean {meant!r}?")
    return HookError("\n".join(lines))


def owner_name(plugin: object) -> str:
    """Return the name of a plugin in messages: its class, or its own if it is a class or a module."""
    return plugin.__name__ if inspect.isclass(plugin) or inspect.ismodule(plugin) else type(plugin).__name__


def code_of(function: object) -> Any:
    """Return the code that the user wrote, below decorators that keep ``__wrapped__``; None if there is none."""
    function = inspect.unwrap(function) if callable(function) else None
    return code_of(function.func) if isinstance(function, partial) else getattr(function, "__code__", None)
