from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import pytest

from tests.hooks.examining import found, plugin_with, refusal
from trainkit.errors import HookError
from trainkit.hooks.arguments import request_of
from trainkit.hooks.implementations import find_implementations, refuse_methods_of_modules
from trainkit.hooks.specs import HOOKS, MODULE_METHODS, hookimpl


def test_methods_named_after_hooks_are_implementations_without_a_decorator() -> None:
    class Base:
        def on_fit_end(self) -> None: ...

    class Plugin(Base):
        def on_fit_start(self, trainer: Any) -> None: ...

        @staticmethod
        def on_train_start(module: Any) -> None: ...

        @classmethod
        def on_train_end(cls) -> None: ...

        def improve(self, anything: Any, *more: Any) -> None: ...

    assert sorted(found(Plugin())) == ["on_fit_end", "on_fit_start", "on_train_end", "on_train_start"]


def test_a_marked_method_may_have_another_name() -> None:
    class Plugin:
        @hookimpl(specname="on_fit_start")
        def begin(self) -> None: ...

        @staticmethod
        @hookimpl(tryfirst=True)
        def on_fit_end() -> None: ...

        @hookimpl(trylast=True)
        @staticmethod
        def on_train_end() -> None: ...

    assert found(Plugin()) == {"begin": "on_fit_start", "on_fit_end": "on_fit_end", "on_train_end": "on_train_end"}
    options = {attribute: options for attribute, _, options in find_implementations(Plugin())}
    assert options["on_fit_end"]["tryfirst"] and options["on_train_end"]["trylast"]


def test_functions_on_an_instance_and_in_a_python_module_count() -> None:
    instance = plugin_with()
    instance.on_fit_start = lambda trainer: None  # type: ignore[attr-defined]
    assert found(instance) == {"on_fit_start": "on_fit_start"}
    module = types.ModuleType("plugin")
    module.on_fit_end = lambda: None  # type: ignore[attr-defined]
    assert found(module) == {"on_fit_end": "on_fit_end"}


def test_none_switches_an_inherited_hook_off() -> None:
    class Base:
        def on_fit_start(self) -> None: ...

    class Quiet(Base):
        on_fit_start = None  # type: ignore[assignment]

    assert found(Quiet()) == {}


def test_properties_are_not_evaluated() -> None:
    class Plugin:
        @property
        def on_improvement(self) -> None:
            raise AssertionError("evaluated")

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"asked for {name}")

        def on_fit_start(self) -> None: ...

    assert found(Plugin()) == {"on_fit_start": "on_fit_start"}


def test_what_has_the_name_of_a_hook_must_be_a_function() -> None:
    message = refusal(on_fit_start=property(lambda self: None))
    assert "Plugin.on_fit_start has the name of a hook, but is of type property" in message
    assert "of type int" in refusal(on_fit_end=3)
    assert "of type type" in refusal(on_fit_end=int)


def test_a_marked_method_of_an_unknown_hook_names_the_nearest() -> None:
    @hookimpl
    def on_train_bach_end(self: Any) -> None: ...

    message = refusal(on_train_bach_end=on_train_bach_end)
    assert "Plugin.on_train_bach_end joins 'on_train_bach_end', which is no hook." in message
    assert "did you mean 'on_train_batch_end'?" in message


def test_an_optional_hook_may_be_unknown() -> None:
    @hookimpl(optionalhook=True)
    def on_something_of_a_later_version(self: Any) -> None: ...

    assert found(plugin_with(on_something_of_a_later_version=on_something_of_a_later_version)) == {}


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("on_train_batch_strat", "on_train_batch_start"),
        ("on_train_epoch_begin", "on_train_epoch_end"),
        ("on_validation_ends", "on_validation_end"),
        ("around_train_step", "around_training_step"),
        ("configure_optimizer", "configure_optimizers"),
    ],
)
def test_an_unmarked_method_that_is_almost_a_hook_is_an_error(typo: str, meant: str) -> None:
    def method(self: Any) -> None: ...

    def without_self() -> None: ...

    for function, wrapped in (
        (method, method),
        (without_self, staticmethod(without_self)),
        (method, classmethod(method)),
    ):
        message = refusal(**{typo: wrapped})
        assert f"Plugin.{typo} is named almost like a hook" in message
        assert f"did you mean '{meant}'?" in message
        assert f"test_implementations.py:{function.__code__.co_firstlineno}" in message


@pytest.mark.parametrize(
    "name",
    ["on_improvement", "on_loss_nan", "configure_heads", "around_the_world", "configure_optimizers", "train_start"],
)
def test_a_method_with_a_name_of_its_own_is_left_alone(name: str) -> None:
    def method(self: Any, *anything: Any) -> None: ...

    assert found(plugin_with(**{name: method})) == {}


def test_an_attribute_that_is_no_function_is_no_typo() -> None:
    assert found(plugin_with(on_train_batch_strat=True)) == {}


def test_anything_that_can_be_called_may_be_assigned() -> None:
    def scaled(factor: float, outputs: Any, batch: Any = None) -> float:
        return factor * float(outputs)

    class Scaled:
        def __call__(self, outputs: Any) -> float:
            return 4 * float(outputs)

    plugin = plugin_with()
    plugin.on_fit_end = lambda trainer: None  # type: ignore[attr-defined]
    plugin.on_train_batch_end = functools.partial(scaled, 2.0, batch=5)  # type: ignore[attr-defined]
    plugin.on_validation_batch_end = Scaled()  # type: ignore[attr-defined]
    functions = {attribute: function for attribute, function, _ in find_implementations(plugin)}
    assert functions["on_train_batch_end"](1) == 2
    assert functions["on_validation_batch_end"](1) == 4
    # What the partial has set is not asked for.
    assert request_of(functions["on_train_batch_end"], HOOKS["on_train_batch_end"]) == (("outputs",), ())


def test_a_partial_method_of_a_class_is_bound() -> None:
    class Plugin:
        def scaled(self, factor: float, outputs: Any) -> float:
            return factor * float(outputs)

        on_train_batch_end = functools.partialmethod(scaled, 3)

    ((_, function, _),) = find_implementations(Plugin())
    assert function(1) == 3


@pytest.mark.parametrize("name", MODULE_METHODS)
def test_a_method_that_only_modules_have_is_refused_on_a_plugin(name: str) -> None:
    def method(self: Any) -> None: ...

    with pytest.raises(HookError, match=rf"Plugin.{name} is a method of modules.*\n.*\n.*join {MODULE_METHODS[name]}"):
        refuse_methods_of_modules(plugin_with(**{name: method}))
    refuse_methods_of_modules(plugin_with(**{name: 3, f"_{name}": method}))


def test_a_decorator_with_functools_wraps_keeps_the_arguments() -> None:
    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return call

    @decorated
    def on_fit_start(self: Any, trainer: Any) -> None: ...

    assert found(plugin_with(on_fit_start=on_fit_start)) == {"on_fit_start": "on_fit_start"}


def test_a_class_whose_hooks_need_no_instance_is_a_plugin() -> None:
    class Plugin:
        @staticmethod
        def on_fit_start(trainer: Any) -> None: ...

        @classmethod
        def on_fit_end(cls, trainer: Any) -> None: ...

    assert sorted(found(Plugin)) == ["on_fit_end", "on_fit_start"]


def test_a_class_of_another_convention_says_how_its_methods_are_called() -> None:
    class Foreign:
        """Its methods take a batch under any name, and one of them is not meant to be called."""

        def on_train_batch_start(self, it: Any) -> str:
            return f"got {it}"

        def on_train_batch_end(self) -> None: ...

        def adapt_hook(self, hook: str, function: Callable[..., Any]) -> Callable[..., Any] | None:
            return (lambda batch: function(batch)) if hook == "on_train_batch_start" else None

    (implementation,) = find_implementations(Foreign())
    assert implementation.options["specname"] == "on_train_batch_start"
    assert implementation.function("a batch") == "got a batch"


def test_what_an_adapted_method_asks_for_is_checked_too() -> None:
    adapted = {"adapt_hook": lambda self, hook, function: lambda bacth: function(bacth)}
    assert "did you mean 'batch'" in refusal(on_train_batch_start=lambda self, it: None, **adapted)
