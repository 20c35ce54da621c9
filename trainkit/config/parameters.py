"""The parameters of a class or function: those of its base classes too, where it passes its ``**kwargs`` on."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from inspect import Parameter
from types import SimpleNamespace
from typing import Any

from torch import nn

_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


@dataclass(slots=True)
class Parameters:
    """What may be given by keyword.

    Attributes:
        named: The parameters by name, with annotations as objects where these can be evaluated.
        takes_any: Whether other names are accepted as well.
    """

    named: dict[str, Parameter] = field(default_factory=dict)
    takes_any: bool = False


def parameters_of(function: Callable[..., Any]) -> Parameters | None:
    """Return the parameters of ``function``; None if it has no signature."""
    try:
        parameters = inspect.signature(function).parameters.values()
    # Some functions that are written in C have no signature. They check their arguments themselves.
    except ValueError:
        return None
    if inspect.isclass(function) and _is_made_by_init(function):
        return _through_bases(function)
    named = _named(parameters, _names_known_to(function))
    return Parameters(named, takes_any=_catch_all(parameters) is not None)


def _is_made_by_init(kind: Any) -> bool:
    """Return whether the arguments of a class go to ``__init__`` alone, and to none of what may stand before it."""
    is_plain = type(kind).__call__ is type.__call__ and kind.__new__ is object.__new__
    return is_plain and inspect.isfunction(kind.__init__) and "__signature__" not in vars(kind)


def _through_bases(kind: Any) -> Parameters:
    """Return the parameters of ``__init__``, and of those behind it that its ``**kwargs`` reach."""
    found = Parameters()
    given: set[str] = set()  # by a constructor to the one behind it, so that nobody else may
    position, classes = 0, kind.__mro__
    while True:
        base = next(each for each in classes if "__init__" in vars(each))
        # They refuse every argument, whatever their signatures say.
        if base is object or (base is nn.Module and not kind.call_super_init):
            return found
        constructor = vars(base)["__init__"]
        if not inspect.isfunction(constructor):  # written in C
            found.takes_any = True
            return found
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        given.update(each.name for each in parameters[:position])
        for name, parameter in _named(parameters, _names_known_to(constructor, kind)).items():
            if name not in given:
                # Where a constructor may have put something into its ``**kwargs``, nothing is known to be missing.
                found.named.setdefault(name, parameter.replace(default=None) if found.takes_any else parameter)
        catch_all = _catch_all(parameters)
        if catch_all is None:
            return found
        # torch's own is known without its source, which another library may have replaced.
        passed = _PassedOn(None, set(), 0, False) if base is nn.Module else _passed_on(constructor, catch_all)
        found.takes_any = found.takes_any or passed is None or not passed.untouched
        if passed is None:
            return found
        given |= passed.names
        position = passed.positional
        behind = kind.__mro__[kind.__mro__.index(base) + 1 :]
        named = [each for each in behind if each.__name__ == passed.to]
        classes = behind[behind.index(named[0]) :] if named else behind


@dataclass(frozen=True, slots=True)
class _PassedOn:
    """How a constructor passes its ``**kwargs`` to the one behind it.

    Attributes:
        to: The name of the base class, as in ``Base.__init__(self, **kwargs)``; None for ``super()``.
        names: What it gives by keyword beside them.
        positional: How many arguments it gives by position.
        untouched: Whether it does nothing else with them.
    """

    to: str | None
    names: set[str]
    positional: int
    untouched: bool


def _passed_on(constructor: Callable[..., Any], catch_all: str) -> _PassedOn | None:
    """Return how ``constructor`` passes the argument ``**catch_all`` on; None if it does not, or nobody can tell."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(constructor)))
    except (OSError, TypeError, SyntaxError):  # typed in, generated, or text that has lost its indentation
        return None
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == catch_all]
    calls = [
        (node, node.func.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "__init__"
        and any(keyword.arg is None and keyword.value in uses for keyword in node.keywords)
    ]
    if len(calls) != 1:
        return None
    ((call, owner),) = calls
    to = None if isinstance(owner, ast.Call) else ast.unparse(owner).rpartition(".")[2]
    # A configuration gives everything by name, so that ``*args`` are none.
    positional = sum(not isinstance(argument, ast.Starred) for argument in call.args) - (to is not None)
    names = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
    return _PassedOn(to, names, positional, untouched=len(uses) == 1)


def _named(parameters: Iterable[Parameter], known: dict[str, Any]) -> dict[str, Parameter]:
    """Return the parameters that have a name, by it, with their annotations evaluated."""
    return {
        parameter.name: parameter.replace(annotation=_evaluated(parameter.annotation, known))
        for parameter in parameters
        if parameter.kind in _NAMED
    }


def _catch_all(parameters: Iterable[Parameter]) -> str | None:
    """Return the name of ``**kwargs``, if they are among the parameters."""
    return next((parameter.name for parameter in parameters if parameter.kind is Parameter.VAR_KEYWORD), None)


def _evaluated(annotation: Any, known: dict[str, Any]) -> Any:
    """Return an annotation as an object, quoted parts of it too; as it was where a name in it is not known."""
    if annotation is Parameter.empty:
        return annotation
    try:
        holder: Any = SimpleNamespace(__annotations__={"it": annotation})
        return typing.get_type_hints(holder, known, include_extras=True)["it"]
    # Evaluating runs any expression; most often a name is missing that only type checkers import. Each annotation is
    # evaluated by itself, so that this one alone is not checked.
    except Exception:
        return annotation


def _names_known_to(function: Callable[..., Any], owner: type | None = None) -> dict[str, Any]:
    """Return the names that annotations of ``function`` may use: those of its module come first.

    Behind them are those of its class and, as a dataclass has the annotations of its bases, of their modules.
    """
    known: dict[str, Any] = {}
    for base in reversed(owner.__mro__ if owner is not None else ()):
        known |= vars(sys.modules.get(base.__module__, builtins))
        known |= vars(base)
    return known | vars(builtins) | getattr(inspect.unwrap(function), "__globals__", {})
