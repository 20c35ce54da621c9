"""Finds the hooks that a plugin implements, and has them checked: what is wrong with a plugin is an error from here.

A plugin that was written for another calling convention, such as Lightning's, may have a method
``adapt_hook(self, hook, function)``. It is given each bound method that is named after a hook, and returns a function
that names the hook's arguments, or None if the method is not to be called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, partialmethod, wraps
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from pluggy import HookimplOpts

from trainkit.errors import nearest_name
from trainkit.hooks.arguments import CLOSE, check_arguments
from trainkit.hooks.specs import HOOKS, MODULE_METHODS, hookimpl
from trainkit.hooks.unbindable import owner_name, unbindable
from trainkit.hooks.wrappers import check_wrapper

_MARK = f"{hookimpl.project_name}_impl"
_PREFIXES = ("on_", "configure_", "around_")
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
    meant = nearest_name(attribute, {*HOOKS, *MODULE_METHODS}, CLOSE)
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
    check_wrapper(name, hook, function, options)
    if not isinstance(function, FunctionType | MethodType):
        function = _as_function(function)
    # Before the arguments are checked, since those of another convention have other names.
    adapt = getattr(type(plugin), "adapt_hook", None)
    if adapt is not None:
        function = adapt(plugin, hook, function)
        if function is None:
            return None
    check_arguments(plugin, name, hook, function)
    return Implementation(attribute, function, options)


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
