"""How methods that were written for Lightning are called.

Lightning calls a hook with all its arguments, by position, so that its users name them as they like; trainkit passes
the arguments that a method names. Here a method is called

- by name, if it uses the names of the hook (``pl_module`` is ``module``), all of them or some;
- by position, in Lightning's order, if it takes as many arguments as Lightning passes, under any names, or ``*args``.

Anything else is an error. Lightning passes ``dataloader_idx`` only where there are several loaders, so a method may
leave it out.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from trainkit.hooks.specs import HOOKS
from trainkit.hooks.unbindable import owner_name, unbindable

C = TypeVar("C", bound=type)

RENAMED = {"pl_module": "module"}
_BY_KEYWORD = {"setup": ("stage",), "teardown": ("stage",)}


def stub(*args: Any, **kwargs: Any) -> Any:
    """Do nothing. It stands for every hook that a class does not implement, so that ``super()`` finds one to call."""


def adapt(plugin: object, hook: str, function: Callable[..., Any], passed: Sequence[str]) -> Callable[..., Any] | None:
    """Return ``function`` as one that names the arguments of ``hook``; None for a `stub`.

    Args:
        plugin: Whose method it is.
        hook: The hook that it joins.
        function: The bound method.
        passed: What Lightning passes to it, by the names of trainkit and in Lightning's order.

    Raises:
        HookError: If it takes neither names that the hook has, nor as many arguments as Lightning passes.
    """
    plain = getattr(function, "__func__", function)
    if plain is stub:
        return None
    own = getattr(plain, "of_core", None)
    if own is not None:
        bound: Callable[..., Any] = own.__get__(plugin)
        return bound
    parameters = inspect.signature(function).parameters.values()
    names = [RENAMED.get(parameter.name, parameter.name) for parameter in parameters]
    optional = {p.name for p in parameters if p.default is not p.empty}
    if all(name in HOOKS[hook] or name in optional for name in names):
        if not any(parameter.name in RENAMED for parameter in parameters):
            return function
        return _with_signature(function, [p.replace(name=n) for p, n in zip(parameters, names, strict=True)])
    return _by_position(plugin, hook, function, passed)


def takes_all(cls: C) -> C:
    """Let the hooks that ``cls`` has from trainkit be called as Lightning's are: with all their arguments.

    So a user's subclass may call ``super().on_validation_end(trainer, pl_module)``.
    """
    methods = {name: method for owner in reversed(cls.__mro__) for name, method in vars(owner).items()}
    for name, method in methods.items():
        if name in HOOKS and inspect.isfunction(method) and method is not stub and not hasattr(method, "of_core"):
            setattr(cls, name, _taking_all(method))
    return cls


def _taking_all(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that takes every argument of its hook and passes on those that ``method`` names."""
    provided = HOOKS[method.__name__]
    wanted = [name for name in inspect.signature(method).parameters if name in provided]

    @functools.wraps(method)
    def call(self: object, *values: Any, **named: Any) -> Any:
        given = dict(zip(provided, values, strict=False)) | {RENAMED.get(name, name): named[name] for name in named}
        return method(self, **{name: given[name] for name in wanted})

    call.of_core = method  # type: ignore[attr-defined]  # what `adapt` binds in its place
    return call


def _by_position(plugin: object, hook: str, function: Callable[..., Any], passed: Sequence[str]) -> Callable[..., Any]:
    signature = inspect.signature(function)
    takes_any_name = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    by_keyword = [name for name in _BY_KEYWORD.get(hook, ()) if takes_any_name]
    full = [name for name in passed if name not in by_keyword]
    for positional in (full, [name for name in full if name != "dataloader_idx"]):
        try:
            signature.bind(*positional, **dict.fromkeys(by_keyword))
        except TypeError:
            continue
        kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter(name, kinds[name in by_keyword]) for name in (*positional, *by_keyword)]
        return _with_signature(function, parameters)
    raise unbindable(
        f"{owner_name(plugin)}.{hook}{signature} can be called neither by name nor by position.",
        function,
        provided=["module (or pl_module)" if name == "module" else name for name in HOOKS[hook]],
        remedy=f"use these names, as many as you need; or take, under any names, all of ({', '.join(passed)})",
    )


def _with_signature(function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> Callable[..., Any]:
    """Return ``function`` under another signature."""

    def call(*values: Any, **named: Any) -> Any:
        return function(*values, **named)

    call.__name__ = function.__name__
    call.__signature__ = inspect.Signature(list(parameters))  # type: ignore[attr-defined]  # read by inspect
    return call
