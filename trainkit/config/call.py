"""Calls a class with arguments from a configuration, which are checked against its signature first."""

from __future__ import annotations

import collections.abc
import functools
import itertools
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, Union, get_args, get_origin

from trainkit.config.parameters import Parameters, parameters_of
from trainkit.config.schema import Section, Source
from trainkit.config.target import locate
from trainkit.config.values import choices_of, convert
from trainkit.errors import ConfigError, UnknownArgumentError, note_on


def call(
    function: Callable[..., Any],
    arguments: Section,
    key: str,
    source: Source,
    *,
    closed: bool = False,
    positional: Sequence[Any] = (),
    partial: bool = False,
) -> Any:
    """Return ``function(*positional, **arguments)``.

    Args:
        function: A class, or a function that makes an object.
        arguments: The arguments by name. Lists and strings become tuples, paths and enums where annotations say so.
        key: The key path of the arguments in the configuration.
        source: Where the configuration was written; goes into errors.
        closed: Whether to refuse names that only ``**kwargs`` would take.
        positional: Arguments by position.
        partial: Whether to return a function that takes what is not given yet.

    Raises:
        ConfigError: If an argument is unknown, missing or of the wrong type, or if ``function`` refuses it.
    """
    parameters = parameters_of(function)
    if parameters is not None:
        if closed:
            parameters.takes_any = False
        positional, arguments = _Checker(function, parameters, key, source).checked(positional, arguments, partial)
    if partial:
        return functools.partial(function, *positional, **arguments)
    try:
        return function(*positional, **arguments)
    # Only here it is known where the values were written.
    except Exception as error:
        note_on(error, f"    in           {source.where(key)}")
        raise


@dataclass(frozen=True, slots=True)
class _Checker:
    """Checks arguments for one call, and converts them to what its annotations say."""

    function: Callable[..., Any]
    parameters: Parameters
    key: str
    source: Source

    @property
    def name(self) -> str:
        """The name of what is called."""
        return getattr(self.function, "__qualname__", repr(self.function))

    def checked(self, positional: Sequence[Any], arguments: Section, partial: bool) -> tuple[list[Any], Section]:
        """Return the arguments, converted. Raises `ConfigError` if one is unknown, wrong, or missing."""
        named = self.parameters.named
        for name in arguments:
            if name not in named and not self.parameters.takes_any:
                where = self.source.where(f"{self.key}.{name}")
                raise UnknownArgumentError(f"argument of {self.name}", name, named, where)
            self._note_unchecked(name)
        by_position = [name for name in named if named[name].kind is Parameter.POSITIONAL_OR_KEYWORD][: len(positional)]
        twice = next((name for name in by_position if name in arguments), None)
        if twice is not None:
            raise self.source.refuse(f"{self.key}._args_", f"{self.key} gives {twice!r} twice: in _args_ and by name.")
        given = {*arguments, *by_position}
        missing = [name for name in named if named[name].default is Parameter.empty and name not in given]
        if missing and not partial:
            raise self.source.refuse(
                self.key,
                f"{self.key} lacks {missing[0]!r}, which {self.name} needs.",
                allowed=", ".join(map(_declaration, named.values())),
                write="_partial_: true beside its arguments, if your code is to give the rest"
                if _is_made_later(missing)
                else "",
            )
        items = [
            self._converted(value, f"_args_[{index}]", named[name])
            for index, (name, value) in enumerate(zip(by_position, positional, strict=False))
        ]
        # By the order of the parameters, whose checks do not depend on that of the file.
        converted = {name: self._converted(arguments[name], name, named[name]) for name in named if name in arguments}
        return [*items, *positional[len(items) :]], {name: converted.get(name, arguments[name]) for name in arguments}

    def _note_unchecked(self, name: str) -> None:
        """Note an argument of which nothing is known but its name, or not even that."""
        parameter = self.parameters.named.get(name)
        if parameter is None:
            self.source.unchecked[f"{self.key}.{name}"] = f"{self.name} takes any name, by **kwargs"
        elif parameter.annotation is Parameter.empty:
            self.source.unchecked[f"{self.key}.{name}"] = f"{name} of {self.name} has no annotation"

    def _converted(self, value: Any, name: str, parameter: Parameter) -> Any:
        key = f"{self.key}.{name}"
        try:
            return convert(value, parameter.annotation, _Maker(key, self.source))
        except ConfigError:  # some are TypeErrors too, and say all
            raise
        # `from None`, since the TypeError of `convert` says nothing: this message has the key and the annotation.
        except TypeError:
            choices = choices_of(parameter.annotation)
            one_of = f": one of {', '.join(choices)}" if choices else ""
            raise self.source.refuse(
                key,
                f"{key}={value!r} is not usable.",
                allowed=f"{_declaration(parameter)}{one_of}, says {self.name}",
                write=_dotted_name(value, parameter.annotation),
            ) from None


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes objects of the value at one key, and finds what it names; see `trainkit.config.values.Maker`."""

    key: str
    source: Source

    def make(self, kind: Callable[..., Any], arguments: Section) -> Any:
        return call(kind, arguments, self.key, self.source, closed=True)

    def find(self, name: str, expected: str, is_expected: Callable[[Any], bool]) -> Any:
        return locate(name, self.key, self.source, expected, is_expected)


def _is_made_later(missing: Sequence[str]) -> bool:
    """Whether what is missing is what only the code can give: the parameters of an optimizer, or that of a schedule."""
    return missing[0] in ("params", "optimizer")


def _dotted_name(value: Any, annotation: Any) -> str:
    """Return how a class or function is written that was given by its last name alone; empty if that is not it."""
    named = [each for each in _parts_of(annotation) if (get_origin(each) or each) in (type, collections.abc.Callable)]
    if not named or not isinstance(value, str) or not value.isidentifier():
        return ""
    bases = [base for each in named for base in get_args(each)[:1] if isinstance(base, type)]
    for module in [name for base in bases for name in itertools.accumulate(base.__module__.split("."), _join)]:
        if hasattr(sys.modules.get(module), value):  # the shortest: torch.nn.GELU, not torch.nn.modules.GELU
            return f"{module}.{value}"
    return f"package.module.{value}, a dotted name"


def _join(above: str, name: str) -> str:
    return f"{above}.{name}"


def _parts_of(annotation: Any) -> list[Any]:
    """Return an annotation, or what a union of several is made of."""
    is_union = get_origin(annotation) in (Union, types.UnionType)
    return list(get_args(annotation)) if is_union else [annotation]


def _declaration(parameter: Parameter) -> str:
    """Return name and annotation of a parameter, such as ``lr: float``."""
    return str(parameter.replace(default=Parameter.empty))
