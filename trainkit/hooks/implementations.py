"""Finds the hooks that a plugin implements, and checks them: whatever is wrong with a plugin is an error from here.

A plugin that was written for another calling convention, such as Lightning's, may have a method
``adapt_hook(self, hook, function)``. It is given each bound method that is named after a hook, and returns a function
that names the hook's arguments, or None if the method is not to be called.
"""

from __future__ import annotations

import dis
import inspect
import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial, partialmethod, wraps
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from pluggy import HookimplOpts

from trainkit.errors import HookError, nearest_name
from trainkit.hooks.specs import HOOKS, MODULE_METHODS, USED_RESULTS, hookimpl

_MARK = f"{hookimpl.project_name}_impl"
_PREFIXES = ("on_", "configure_", "around_")
# How similar a name must be to a hook's to be taken for a slip, from 0 to 1. A transposed or missing letter gives 0.9
# and more; lower, and methods with names of their own would be refused.
_CLOSE = 0.8
_BINDABLE = (FunctionType, MethodType, staticmethod, classmethod, partial, partialmethod)


class Implementation(NamedTuple):
    """One method of a plugin that joins a hook.

    Attributes:
        attribute: The method's name: the hook's, unless ``hookimpl(specname=...)`` says otherwise.
        function: The method, bound to its plugin.
        options: What pluggy wants to know about it; ``specname`` is the hook, also where the mark does not say so.
    """

    attribute: str
    function: Callable[..., Any]
    options: HookimplOpts


class Request(NamedTuple):
    """The arguments of a hook that a function asks for.

    Attributes:
        by_position: Those to pass by position, in the order of the function's parameters.
        by_name: Those to pass by keyword.
    """

    by_position: tuple[str, ...]
    by_name: tuple[str, ...]


def find_implementations(plugin: object) -> list[Implementation]:
    """Return every hook implementation of ``plugin``: functions named after a hook, or marked with `hookimpl`.

    What was assigned to the object counts as what its class defines: a function, a ``functools.partial``, anything that
    can be called. Properties are never evaluated, and an attribute that is None joins nothing.

    Raises:
        HookError: If anything is wrong with any of them.
    """
    found = []
    for attribute, value in _stored_attributes(plugin).items():
        mark = _mark_of(value)
        if mark is None and attribute not in HOOKS:
            _refuse_typo(plugin, attribute, value)
        # None is how a subclass switches off a hook that it inherits.
        elif value is not None:
            options = _options(attribute, mark)
            # `optionalhook=True` is for plugins that also run with a version that lacks the hook.
            if options["specname"] in HOOKS or not options["optionalhook"]:
                found.append(_implementation(plugin, attribute, value, options))
    return [implementation for implementation in found if implementation is not None]


def request_of(function: Callable[..., Any], provided: Sequence[str], rest: Sequence[str] = ()) -> Request:
    """Return which of the ``provided`` arguments ``function`` names, those for which it has a default included.

    Args:
        function: The function.
        provided: The arguments of the hook.
        rest: Those of which ``*args`` takes the ones that are not named, in this order.
    """
    by_position: list[str] = []
    by_name: list[str] = []
    gap = False
    parameters = inspect.signature(function).parameters
    for parameter in parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            by_position += [name for name in rest if name not in parameters]
        elif parameter.name not in provided:
            gap = True  # this one keeps its default, so what follows has to be passed by keyword
        elif gap or parameter.kind is parameter.KEYWORD_ONLY:
            by_name.append(parameter.name)
        else:
            by_position.append(parameter.name)
    return Request(tuple(by_position), tuple(by_name))


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


def refuse_methods_of_modules(plugin: object) -> None:
    """Raise `HookError` if ``plugin``, which is no module, has a method that is called on modules alone.

    It may be called if a base class of trainkit's has it: an object may be a data module and a callback.
    """
    for attribute, value in _stored_attributes(plugin).items():
        if attribute in MODULE_METHODS and isinstance(value, _BINDABLE) and not _has_base_with(attribute, plugin):
            raise unbindable(
                f"{owner_name(plugin)}.{attribute} is a method of modules, so nothing would call it on a plugin.",
                getattr(plugin, attribute),
                remedy=f"define it in the TrainModule, or join {MODULE_METHODS[attribute]}, the nearest hook",
            )


def _has_base_with(attribute: str, plugin: object) -> bool:
    return any(attribute in vars(owner) for owner in type(plugin).__mro__ if owner.__module__.startswith("trainkit."))


def owner_name(plugin: object) -> str:
    """Return the name of a plugin in messages: its class, or its own if it is a class or a module."""
    return plugin.__name__ if inspect.isclass(plugin) or inspect.ismodule(plugin) else type(plugin).__name__


def _stored_attributes(plugin: object) -> dict[str, object]:
    """Return all attributes as they are stored, in alphabetical order, which is the order in which pluggy takes them.

    `getattr` would run properties of the plugin, which may have effects or fail outside a run.
    """
    owners = plugin.__mro__ if inspect.isclass(plugin) else (plugin, *type(plugin).__mro__)
    stored: dict[str, object] = {}
    # From the base to the instance, so that what overrides comes last and stays.
    for owner in reversed(owners):
        stored.update(getattr(owner, "__dict__", {}))  # a class with __slots__ makes instances without one
    return dict(sorted(stored.items()))


def _mark_of(value: object) -> dict[str, Any] | None:
    """Return the options that `hookimpl` stored, whether above or below ``staticmethod`` and ``classmethod``."""
    # Not asked of anything else: an object with ``__getattr__`` may claim to have every attribute.
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
    """Return the implementation, checked; None if ``adapt_hook`` says that it is not to be called."""
    name = f"{owner_name(plugin)}.{attribute}"
    hook = options["specname"] or attribute
    # A class can be called too, and is never meant to be.
    if not isinstance(value, _BINDABLE) and (not callable(value) or inspect.isclass(value)):
        raise unbindable(
            f"{name} has the name of a hook, but is of type {type(value).__name__}.",
            value,
            remedy="make it a method, or give it another name",
        )
    function = getattr(plugin, attribute)  # a plain function: this only binds it
    if hook not in HOOKS:
        raise unbindable(f"{name} joins {hook!r}, which is no hook.", function, meant=nearest_name(hook, HOOKS))
    _check_kind(name, hook, function, options)
    if not isinstance(function, FunctionType | MethodType):
        function = _as_function(function)
    # Before the arguments are checked, since those of another convention have other names.
    adapt = getattr(type(plugin), "adapt_hook", None)
    if adapt is not None:
        function = adapt(plugin, hook, function)
        if function is None:
            return None
    _check_arguments(plugin, name, hook, function)
    return Implementation(attribute, function, options)


def _check_kind(name: str, hook: str, function: Callable[..., Any], options: HookimplOpts) -> None:
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


def _check_arguments(plugin: object, name: str, hook: str, function: Callable[..., Any]) -> None:
    """Check that the hook provides every argument that ``function`` needs, and that no optional one is a slip."""
    provided = HOOKS[hook]
    parameters = inspect.signature(function).parameters
    kinds = [parameter.kind for parameter in parameters.values()]
    takes_rest = inspect.Parameter.VAR_POSITIONAL in kinds
    for argument, parameter in parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            if takes_rest:
                continue  # `*args` takes all that is left, and this stays empty
            raise unbindable(
                f"{name} takes {parameter}, but a hook gets the arguments it names.",
                function,
                provided=provided,
                remedy="name those it needs, or take the rest by *args",
            )
        if argument in provided:
            continue
        if argument == "self":
            raise _unbound(plugin, name, function)
        if takes_rest and kinds.index(parameter.VAR_POSITIONAL) > [*parameters].index(argument):
            raise unbindable(
                f"{name} has {parameter} before its *args, which take what this hook provides.",
                function,
                provided=provided,
                remedy=f"write {argument} behind *args",
            )
        # A parameter with a default may be the plugin's own business, unless its name comes close to an argument's.
        optional = parameter.default is not parameter.empty
        left = [other for other in provided if other not in parameters]
        meant = nearest_name(argument, left, cutoff=_CLOSE if optional else 0.6)
        if meant is not None or not optional:
            problem = f"{name} asks for {argument!r}, which this hook does not provide."
            raise unbindable(problem, function, provided=provided, meant=meant)


def _unbound(plugin: object, name: str, function: Callable[..., Any]) -> HookError:
    """Return the error for a function that still waits for its ``self``."""
    if inspect.isclass(plugin):
        remedy = f"{plugin.__name__}(...) for {plugin.__name__}"
    else:
        remedy = "assign types.MethodType(function, object), since Python binds only what is defined in a class"
    return unbindable(f"{name} needs an instance.", function, remedy=remedy)


def _as_function(value: Callable[..., Any]) -> Callable[..., Any]:
    """Return anything that can be called as a function, which is all that pluggy takes."""

    @wraps(value)
    def call(*values: Any, **named: Any) -> Any:
        return value(*values, **named)

    # What a partial has set by name stays as it is: the hook is not asked for it.
    signature, is_set = inspect.signature(value), value.keywords if isinstance(value, partial) else ()
    parameters = [parameter for name, parameter in signature.parameters.items() if name not in is_set]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # read by inspect
    return call


def _returns_nothing(function: Callable[..., Any]) -> bool:
    """Whether every way out of a generator returns None, as when its author forgot to hand on the result.

    Read from the bytecode, because the source may not be there. False when in doubt.
    """
    code = _code_of(function)
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


def _code_of(function: object) -> Any:
    """Return the code that the user wrote, below decorators that keep ``__wrapped__``; None if there is none."""
    function = inspect.unwrap(function) if callable(function) else None
    return _code_of(function.func) if isinstance(function, partial) else getattr(function, "__code__", None)
