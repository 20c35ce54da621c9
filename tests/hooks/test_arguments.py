"""A function is given the arguments of a hook that it names, and may ask for no others."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

from tests.hooks.examining import found, plugin_with, refusal
from trainkit.errors import HookError
from trainkit.hooks.arguments import request_of
from trainkit.hooks.implementations import find_implementations
from trainkit.hooks.specs import HOOKS


def test_an_unknown_argument_shows_what_is_provided_and_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    class StopOnPlateau:
        def on_train_batch_end(self, output: Any) -> None: ...

    monkeypatch.chdir(Path(__file__).parent)
    with pytest.raises(HookError) as caught:
        find_implementations(StopOnPlateau())
    line = StopOnPlateau.on_train_batch_end.__code__.co_firstlineno
    assert str(caught.value).splitlines() == [
        "StopOnPlateau.on_train_batch_end asks for 'output', which this hook does not provide.",
        f"    defined at   test_arguments.py:{line}",
        "    provided     trainer, module, outputs, batch, batch_idx",
        "    did you mean 'outputs'?",
    ]


def test_an_optional_argument_of_ones_own_is_allowed_unless_it_is_a_typo() -> None:
    def own(self: Any, batch_idx: int, verbose: bool = False) -> None: ...

    def typo(self: Any, batch_ix: int = 0) -> None: ...

    assert found(plugin_with(on_train_batch_end=own)) == {"on_train_batch_end": "on_train_batch_end"}
    assert "did you mean 'batch_idx'?" in refusal(on_train_batch_end=typo)


def test_keywords_that_catch_all_are_refused() -> None:
    def keywords(self: Any, trainer: Any, **kwargs: Any) -> None: ...

    assert "takes **kwargs: 'Any', but a hook gets the arguments it names" in refusal(on_fit_start=keywords)


def test_args_take_the_rest_in_the_order_of_the_hook() -> None:
    provided = HOOKS["on_train_batch_end"]

    def rest(trainer: Any, module: Any, *args: Any) -> None: ...

    def out_of_order(batch: Any, *args: Any, module: Any, **kwargs: Any) -> None: ...

    def everything(*args: Any, **kwargs: Any) -> None: ...

    assert request_of(rest, provided, provided) == (provided, ())
    assert request_of(out_of_order, provided, provided) == (("batch", "trainer", "outputs", "batch_idx"), ("module",))
    assert request_of(everything, provided, provided) == (provided, ())
    assert request_of(everything, provided, provided[2:]) == (provided[2:], ())
    for function in (rest, out_of_order, everything):
        assert found(plugin_with(on_train_batch_end=staticmethod(function)))

    def fills(self: Any, trainer: Any, limit: int = 3, *args: Any) -> None: ...

    assert "has limit: 'int' = 3 before its *args" in refusal(on_train_batch_end=fills)


def test_an_assigned_function_that_waits_for_its_self_is_refused() -> None:
    plugin = plugin_with()

    def on_fit_start(self: Any) -> None: ...

    plugin.on_fit_start = on_fit_start  # type: ignore[attr-defined]
    with pytest.raises(HookError, match=r"needs an instance.*\n.*\n.*types.MethodType"):
        find_implementations(plugin)
    plugin.on_fit_start = types.MethodType(on_fit_start, plugin)  # type: ignore[attr-defined]
    assert found(plugin) == {"on_fit_start": "on_fit_start"}


def test_a_class_in_place_of_an_instance_is_explained() -> None:
    class Plugin:
        def on_fit_start(self, trainer: Any) -> None: ...

    with pytest.raises(HookError, match=r"Plugin.on_fit_start needs an instance(.|\n)*Plugin\(\.\.\.\) for Plugin"):
        find_implementations(Plugin)


def test_a_request_goes_by_position_until_something_is_left_out() -> None:
    provided = HOOKS["on_validation_batch_end"]

    def swapped(batch_idx: int, outputs: Any, /) -> None: ...

    def with_default(outputs: Any, dataloader_idx: int = 0) -> None: ...

    def with_gap(outputs: Any, verbose: bool = False, dataloader_idx: int = 0, *, batch: Any = None) -> None: ...

    assert request_of(swapped, provided) == (("batch_idx", "outputs"), ())
    assert request_of(with_default, provided) == (("outputs", "dataloader_idx"), ())
    assert request_of(with_gap, provided) == (("outputs",), ("dataloader_idx", "batch"))
