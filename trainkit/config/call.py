"""Calls a class with arguments from a configuration, which are checked against its signature first."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter
from typing import Any

from trainkit.config.parameters import Parameters, parameters_of
from trainkit.config.schema import Section, Source
from trainkit.config.values import convert
from trainkit.errors import ConfigError, UnknownArgumentError, note_on


def call(function: Callable[..., Any], arguments: Section, key: str, source: Source, *, closed: bool = False) -> Any:
    """Return ``function(**arguments)``.

    Args:
        function: A class, or a function that makes an object.
        arguments: The arguments by name. Lists and strings become tuples, paths and enums where annotations say so.
        key: The key path of the arguments in the configuration.
        source: Where the configuration was written; goes into errors.
        closed: Whether to refuse names that only ``**kwargs`` would take.

    Raises:
        ConfigError: If an argument is unknown, missing or of the wrong type, or if ``function`` refuses it.
    """
    parameters = parameters_of(function)
    if parameters is not None:
        if closed:
            parameters.takes_any = False
        arguments = _checked(function, parameters, arguments, key, source)
    try:
        return function(**arguments)
    # The constructor has its own message, and only here it is known where the values were written.
    except ConfigError as error:
        note_on(error, f"    in           {source.where(key)}")
        raise


def _checked(
    function: Callable[..., Any],
    parameters: Parameters,
    arguments: Section,
    key: str,
    source: Source,
) -> Section:
    """Return the arguments, converted to what the annotations of ``parameters`` say."""
    name_of_function = getattr(function, "__qualname__", repr(function))
    named = parameters.named
    for name in arguments:
        if name not in named and not parameters.takes_any:
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
        # `from None`, since the TypeError of `convert` says nothing: this message has the key and the annotation.
        except TypeError:
            raise source.refuse(
                f"{key}.{name}",
                f"{key}.{name}={arguments[name]!r} is not usable.",
                allowed=f"{_declaration(named[name])}, says {name_of_function}",
            ) from None
    return checked


def _declaration(parameter: Parameter) -> str:
    """Return name and annotation of a parameter, such as ``lr: float``."""
    return str(parameter.replace(default=Parameter.empty))
