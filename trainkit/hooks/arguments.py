"""The arguments of hooks: which of them a function asks for, and whether it asks for any that there are not."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from trainkit.errors import HookError, nearest_name
from trainkit.hooks.specs import HOOKS
from trainkit.hooks.unbindable import unbindable

CLOSE = 0.8
"""How similar a name must be to another one to be taken for a slip, from 0 to 1. A transposed or missing letter gives
0.9 and more; lower, and names that are the plugin's own business would be refused."""


class Request(NamedTuple):
    """The arguments of a hook that a function asks for.

    Attributes:
        by_position: Those to pass by position, in the order of the function's parameters.
        by_name: Those to pass by keyword.
    """

    by_position: tuple[str, ...]
    by_name: tuple[str, ...]


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of ``function``, for methods without the first.

    Those of one function are worked out once: each plugin is asked for them in each fit.
    """
    plain = getattr(function, "__func__", function)
    if not isinstance(plain, FunctionType):
        return inspect.signature(function).parameters
    of_method = function is not plain
    known = _PARAMETERS.setdefault(plain, {})
    if of_method not in known:
        known[of_method] = inspect.signature(function).parameters
    return known[of_method]


_PARAMETERS: WeakKeyDictionary[FunctionType, dict[bool, Mapping[str, inspect.Parameter]]] = WeakKeyDictionary()


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
    parameters = parameters_of(function)
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


def check_arguments(plugin: object, name: str, hook: str, function: Callable[..., Any]) -> None:
    """Check that the hook provides every argument that ``function`` needs, and that no optional one is a slip."""
    provided = HOOKS[hook]
    parameters = parameters_of(function)
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
        meant = nearest_name(argument, left, cutoff=CLOSE if optional else 0.6)
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
