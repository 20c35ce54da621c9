"""Which hooks a plugin implements, and whether each can be bound: all that can be wrong with a plugin is found here.

A class of plugins that were written for another calling convention has a method ``adapt_hook(self, hook, function)``.
It gets each bound method that is named after a hook, and returns a function that names the hook's arguments, or None if
the method is not to be called.
"""

from __future__ import annotations

import dis
import inspect
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from pluggy import HookimplOpts

from trainkit.errors import HookError, nearest_name
from trainkit.hooks.specs import HOOKS, MODULE_METHODS, USED_RESULTS, hookimpl

_MARK = f"{hookimpl.project_name}_impl"
_PREFIXES = ("on_", "configure_", "around_")
_CLOSE = 0.8  # a transposed or missing letter in a hook's name gives 0.9 and more
_BINDABLE = (FunctionType, MethodType, staticmethod, classmethod)


class Implementation(NamedTuple):
    """One method of a plugin that joins a hook.

    Attributes:
        attribute: The method's name: the hook's, unless ``hookimpl(specname=...)`` says otherwise.
        function: The method, bound to its plugin.
        options: What pluggy wants to know about it; ``specname`` is always the hook.
    """

    attribute: str
    function: Callable[..., Any]
    options: HookimplOpts


class Request(NamedTuple):
    """Which of the arguments that a hook provides a function wants, and how it takes them."""

    by_position: tuple[str, ...]
    by_name: tuple[str, ...]


def find_implementations(plugin: object) -> list[Implementation]:
    """Return every hook implementation of ``plugin``: functions named after a hook, or marked with `hookimpl`.

    Properties are never evaluated, and an attribute that is None joins nothing.

    Raises:
        HookError: If anything is wrong with any of them.
    """
    found = []
    for attribute, value in _stored_attributes(plugin).items():
        mark = _mark_of(value)
        if mark is None and attribute not in HOOKS:
            _refuse_typo(plugin, attribute, value)
        elif value is not None:
            options = _options(attribute, mark)
            if options["specname"] in HOOKS or not options["optionalhook"]:
                found.append(_implementation(plugin, attribute, value, options))
    return [implementation for implementation in found if implementation is not None]


def request_of(function: Callable[..., Any], provided: Sequence[str]) -> Request:
    """Return which of the ``provided`` arguments ``function`` wants, also of those that have a default."""
    by_position: list[str] = []
    by_name: list[str] = []
    gap = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in provided:
            gap = True  # it keeps its default, so what follows cannot go by position
        elif gap or parameter.kind is parameter.KEYWORD_ONLY:
            by_name.append(parameter.name)
        else:
            by_position.append(parameter.name)
    return Request(tuple(by_position), tuple(by_name))


def unbindable(
    problem: str, function: object, *, provided: Iterable[str] = (), remedy: str = "", meant: str | None = None
) -> HookError:
    """Return the error for a function that cannot be bound. ``problem`` is a sentence that names it."""
    lines = [problem]
    code = _code_of(function)
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
    """Return what messages call a plugin: its class, or itself if it is a class or a module."""
    return plugin.__name__ if inspect.isclass(plugin) or inspect.ismodule(plugin) else type(plugin).__name__


def _stored_attributes(plugin: object) -> dict[str, object]:
    """Return all attributes as they are stored, without calling descriptors, in the alphabetical order of pluggy."""
    owners = plugin.__mro__ if inspect.isclass(plugin) else (plugin, *type(plugin).__mro__)
    stored: dict[str, object] = {}
    for owner in reversed(owners):
        stored.update(getattr(owner, "__dict__", {}))
    return dict(sorted(stored.items()))


def _mark_of(value: object) -> dict[str, Any] | None:
    """Return the options that `hookimpl` stored, whether above or below ``staticmethod`` and ``classmethod``."""
    if not isinstance(value, _BINDABLE):
        return None
    return getattr(value, _MARK, None) or getattr(getattr(value, "__func__", None), _MARK, None)


def _options(attribute: str, mark: dict[str, Any] | None) -> HookimplOpts:
    given = mark or {}
    return HookimplOpts(
        wrapper=given.get("wrapper", False),
        hookwrapper=given.get("hookwrapper", False),
        optionalhook=given.get("optionalhook", False),
        tryfirst=given.get("tryfirst", False),
        trylast=given.get("trylast", False),
        specname=given.get("specname") or attribute,
    )


def _refuse_typo(plugin: object, attribute: str, value: object) -> None:
    """Raise if a method that is no hook was probably meant to be one. A helper with a name of its own is left alone."""
    if not attribute.startswith(_PREFIXES) or attribute in MODULE_METHODS or not isinstance(value, _BINDABLE):
        return
    meant = nearest_name(attribute, {*HOOKS, *MODULE_METHODS}, _CLOSE)
    if meant is not None:
        raise unbindable(
            f"{owner_name(plugin)}.{attribute} is named almost like a hook, but is none, so nothing would call it.",
            getattr(plugin, attribute),
            remedy="use the hook's name, or a leading underscore if it is a method of your own",
            meant=meant,
        )


def _implementation(plugin: object, attribute: str, value: object, options: HookimplOpts) -> Implementation | None:
    name = f"{owner_name(plugin)}.{attribute}"
    hook = options["specname"] or attribute
    if not isinstance(value, _BINDABLE):
        raise unbindable(
            f"{name} has the name of a hook, but is of type {type(value).__name__}.",
            value,
            remedy="make it a method, or give it another name",
        )
    function = getattr(plugin, attribute)  # a plain function: this only binds it
    if hook not in HOOKS:
        raise unbindable(f"{name} joins {hook!r}, which is no hook.", function, meant=nearest_name(hook, HOOKS))
    _check_kind(name, hook, function, options)
    adapt = getattr(type(plugin), "adapt_hook", None)
    if adapt is not None:
        function = adapt(plugin, hook, function)
        if function is None:
            return None
    _check_arguments(plugin, name, hook, function)
    return Implementation(attribute, function, options)


def _check_kind(name: str, hook: str, function: Callable[..., Any], options: HookimplOpts) -> None:
    """Check that a wrapper is a generator and nothing else is; mark an around-hook's generator as a wrapper."""
    is_generator = inspect.isgeneratorfunction(function)
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
    elif is_generator and hook in USED_RESULTS and _returns_nothing(function):
        problem = "never returns a value, so the result of what it runs around would be lost"
        remedy = "end with `return result`, where `result = yield`"
    if problem:
        raise unbindable(f"{name} {problem}.", function, remedy=remedy)
    options["wrapper"] = is_generator


def _check_arguments(plugin: object, name: str, hook: str, function: Callable[..., Any]) -> None:
    provided = HOOKS[hook]
    parameters = inspect.signature(function).parameters
    for argument, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise unbindable(
                f"{name} takes {parameter}, but a hook gets the arguments it names.",
                function,
                provided=provided,
                remedy="name those it needs (if a decorator added this, it lacks functools.wraps)",
            )
        if argument in provided:
            continue
        if argument == "self" and inspect.isclass(plugin):
            raise unbindable(
                f"{name} needs an instance.", function, remedy=f"{plugin.__name__}(...) for {plugin.__name__}"
            )
        optional = parameter.default is not parameter.empty
        left = [other for other in provided if other not in parameters]
        meant = nearest_name(argument, left, cutoff=_CLOSE if optional else 0.6)
        if meant is not None or not optional:
            problem = f"{name} asks for {argument!r}, which this hook does not provide."
            raise unbindable(problem, function, provided=provided, meant=meant)


def _returns_nothing(function: Callable[..., Any]) -> bool:
    """Whether every way out of a generator gives None, as when its author forgot to hand on the result.

    Read from the bytecode, because the source may not be there. When in doubt, it does return something.
    """
    code = _code_of(function)
    if code is None:
        return False
    for before, instruction in itertools.pairwise(dis.get_instructions(code)):
        if instruction.opname == "RETURN_VALUE":
            if instruction.is_jump_target or (before.opname, before.argval) != ("LOAD_CONST", None):
                return False
        elif instruction.opname == "RETURN_CONST" and instruction.argval is not None:
            return False
    return True


def _code_of(function: object) -> Any:
    """Return the code that the user wrote, below decorators that keep ``__wrapped__``; None if there is none."""
    return getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
