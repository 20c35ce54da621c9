"""Wrappers, which run around the other plugins of a hook: they are generators, and nothing else is one."""

from __future__ import annotations

import dis
import inspect
import itertools
from collections.abc import Callable
from typing import Any

from pluggy import HookimplOpts

from trainkit.hooks.specs import USED_RESULTS
from trainkit.hooks.unbindable import code_of, unbindable


def check_wrapper(name: str, hook: str, function: Callable[..., Any], options: HookimplOpts) -> None:
    """Check that wrappers are generators and all others are not; set ``options["wrapper"]`` for around-hooks."""
    # Of an object that can be called it is its `__call__` that runs.
    is_generator = any(map(inspect.isgeneratorfunction, (function, function.__call__)))  # type: ignore[operator]
    is_around = hook.startswith("around_")
    problem = remedy = ""
    if options["hookwrapper"]:
        problem, remedy = "is an old-style wrapper", "@hookimpl(wrapper=True), `result = yield` and `return result`"
    elif inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        problem, remedy = "is async, but hooks are called directly", "a plain function"
    elif is_around and not is_generator:
        problem, remedy = "is no generator, but this hook runs around something", "yield once, where that is to happen"
    elif options["wrapper"] and not is_generator:
        problem, remedy = "is marked wrapper=True, but is no generator", "yield once, where the others are to run"
    elif options["wrapper"] and hook == "on_exception":
        problem, remedy = "is a wrapper, but this hook must reach every plugin", "a plain function"
    elif is_generator and not (is_around or options["wrapper"]):
        problem = "is a generator, so calling it would run none of it"
        remedy = "@hookimpl(wrapper=True) to run around the other plugins, or no yield"
    # Without this, `yield` alone would turn the loss into None: a batch that is skipped in silence.
    elif is_generator and hook in USED_RESULTS and _returns_nothing(function):
        problem = "never returns a value, so the result of what it runs around would be lost"
        remedy = "end with `return result`, where `result = yield`"
    if problem:
        raise unbindable(f"{name} {problem}.", function, remedy=remedy)
    options["wrapper"] = is_generator


def _returns_nothing(function: Callable[..., Any]) -> bool:
    """Whether every way out of a generator returns None, as when its author forgot to hand on the result.

    Read from the bytecode, because the source may not be there. False when in doubt.
    """
    code = code_of(function)
    if code is None:
        return False
    for before, instruction in itertools.pairwise(dis.get_instructions(code)):
        # `return None` is a LOAD_CONST and a RETURN_VALUE, or one RETURN_CONST in Python 3.12 and 3.13. A jump target
        # is reached from several places, so what stands before it says nothing.
        if instruction.opname == "RETURN_VALUE":
            if instruction.is_jump_target or (before.opname, before.argval) != ("LOAD_CONST", None):
                return False
        elif instruction.opname == "RETURN_CONST" and instruction.argval is not None:
            return False
    return True
