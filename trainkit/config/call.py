"""Call a class with arguments from a configuration, after checking them against its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from trainkit.config.schema import Section, Source
from trainkit.config.values import convert
from trainkit.errors import ConfigError, UnknownArgumentError

_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def call(function: Callable[..., Any], arguments: Section, key: str, source: Source, *, closed: bool = False) -> Any:
    """Return ``function(**arguments)``.

    Args:
        function: A class, or a function that makes something.
        arguments: By name. YAML's lists and strings become tuples, paths and enums where the annotations say so.
        key: The key path of the arguments.
        source: Where they were written.
        closed: Whether names that only ``**kwargs`` would take are refused too.

    Raises:
        ConfigError: If an argument is unknown, missing or of the wrong type, or if ``function`` refuses it.
    """
    parameters = _parameters(function)
    if parameters is not None:
        arguments = _checked(function, parameters, arguments, key, source, closed)
    try:
        return function(**arguments)
    except ConfigError as error:
        error.add_note(f"    in           {source.where(key)}")
        raise


def _checked(
    function: Callable[..., Any],
    parameters: dict[str, Parameter],
    arguments: Section,
    key: str,
    source: Source,
    closed: bool,
) -> Section:
    name_of_function = getattr(function, "__qualname__", repr(function))
    named = {name: parameter for name, parameter in parameters.items() if parameter.kind in _NAMED}
    takes_any = not closed and any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in arguments:
        if name not in named and not takes_any:
            where = source.where(f"{key}.{name}")
            raise UnknownArgumentError(f"argument of {name_of_function}", name, named, where)
    for name, parameter in named.items():
        if parameter.default is Parameter.empty and name not in arguments:
            raise source.refuse(
                key,
                f"{key} lacks {name!r}, which {name_of_function} needs.",
                allowed=", ".join(map(_declaration, named.values())),
            )
    checked = dict(arguments)
    for name in arguments.keys() & named.keys():
        try:
            checked[name] = convert(arguments[name], named[name].annotation)
        except TypeError:
            raise source.refuse(
                f"{key}.{name}",
                f"{key}.{name}={arguments[name]!r} is not usable.",
                allowed=f"{_declaration(named[name])}, says {name_of_function}",
            ) from None
    return checked


def _parameters(function: Callable[..., Any]) -> dict[str, Parameter] | None:
    """Return the parameters, with annotations as objects where they can be evaluated; None if nobody knows them."""
    try:
        return dict(inspect.signature(function, eval_str=True).parameters)
    # Evaluating an annotation runs any expression; most often a name is missing that only type checkers import.
    except Exception:
        try:
            return dict(inspect.signature(function).parameters)
        except ValueError:
            return None


def _declaration(parameter: Parameter) -> str:
    return str(parameter.replace(default=Parameter.empty))
